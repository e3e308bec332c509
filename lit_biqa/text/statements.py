"""Statements of image quality in a sentence of free words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Free words for quality by their level. "Very" moves good and poor one level outward.
_WORDS = {
    "bad": "bad terrible awful horrible dreadful worst lowest",
    "poor": "poor low inferior subpar unsatisfactory unacceptable below-average",
    "fair": "fair average medium moderate acceptable mediocre ordinary normal passable decent "
    "satisfactory adequate reasonable middling so-so tolerable",
    "good": "good great high nice above-average",
    "excellent": "excellent outstanding superb perfect exceptional superior best highest",
}
_LEVEL_OF = {word: level for level, words in _WORDS.items() for word in words.split()}
_VERY = "very extremely exceptionally incredibly remarkably really highly severely truly"
_QUITE = (
    "quite rather relatively fairly pretty somewhat slightly moderately generally just only merely "
    "still also overall too so particularly barely"
)
_STRONGER = {"good": "excellent", "poor": "bad"}
_NEGATED = {"good": "poor", "fair": "poor", "poor": "fair", "bad": "fair"}
_SIZES = {"high", "low"}  # quality can be high or low; a picture that is low is no statement


# Most words of one kind in a row. Without a limit "very very very ..." would be scanned again from
# each of its words.
_SOME, _MANY = "{0,8}", "{1,8}"


def _any(words: str) -> str:
    return f"(?:{'|'.join(words.split())})".replace("-", r"[-\s]")


_IMAGE = r"(?:image|picture|photo(?:graph)?|shot)"
_ADJECTIVE = _any(" ".join(_WORDS.values()))
# A range, "average to good", has no level.
_LEVEL = (
    rf"(?P<words>(?:(?:{_any(_VERY)}|{_any(_QUITE)}|a (?:bit|little))\s+){_SOME}"
    rf"(?P<adjective>{_ADJECTIVE})\b(?!(?:\s+|-)(?:to|or)\b|/))"
)
_OF = rf"(?:\s+(?:of|for)\s+(?:(?:this|the|that|whole|entire|overall)\s+){_MANY}{_IMAGE}\b)"
_KIND = rf"(?:overall|general|visual|total|final|whole|perceptual|perceived|{_IMAGE}(?:['’]s)?)"
_QUALITY = (
    rf"(?:(?:the|its|this)\s+(?:{_KIND}\s+){_SOME}|(?:\b{_KIND}\s+){_MANY}|^|[,;:]\s*)quality{_OF}?"
    r"(?:\s+(?:as a whole|overall|itself))?"
)
_JUDGED = (
    r"(?:\s+(?:considered|rated|regarded|judged|deemed|described|evaluated|classified|assessed|"
    rf"graded|seen)(?:\s+(?:as|to\s+be)){_SOME})"
)
_IS = (
    r"(?:\s*:|(?:['’]s|\s+(?:is|was|appears|seems|looks|remains|has\s+been))(?:\s+not|n['’]t)?"
    rf"(?:\s+to\s+be)?(?:\s+(?:also|still|only|just|thus|therefore|generally|overall)){_SOME}"
    rf"{_JUDGED}?|\s+(?:can|could|may|might|should|must)(?:\s+not|n['’]t)?\s+be{_JUDGED})"
)
_HAS = r"(?:\s+(?:has|shows|presents|exhibits|possesses|displays|demonstrates))"
_QUALITY_NOUN = rf"(?:\s+{_KIND}){_SOME}[-\s]+quality(?:\s+{_IMAGE}\b|{_OF})?"
_THIS = (
    rf"(?:(?:this|the|that|overall|whole)\s+){_SOME}(?:{_IMAGE}|it|this)"
    r"(?:\s+(?:as a whole|overall))?"
)
_SO = (
    rf"(?:(?:which\s+)?(?:result(?:s|ed|ing)?\s+in|lead(?:s|ing)?\s+to|led\s+to|mak(?:es|ing)\s+(?:it|"
    rf"this|the\s+{_IMAGE}|for)|giv(?:es?|ing)\s+(?:it|this|the\s+{_IMAGE})|caus(?:es?|ing)|"
    r"produc(?:es?|ing)|yield(?:s|ing)?|indicat(?:es?|ing)|suggest(?:s|ing)?|mean(?:s|ing)))"
)
_A = r"(?:\s+(?:an?|the))?(?:\s+overall)?"
_END = r"(?=\s*(?:[.,;:!?]|$|overall\b|because\b|due\b|but\b|with\b|as\b))"

_FORMS = {
    # The overall quality of this image is considered poor.
    "quality": rf"{_QUALITY}{_IS}(?:\s+(?:of|at))?{_A}\s+{_LEVEL}(?:{_QUALITY_NOUN}|\s+level\b)?",
    # This is a picture of poor quality. The image has poor quality.
    "has": rf"\b{_THIS}(?:{_IS}|{_HAS})(?:{_A}\s+{_IMAGE})?(?:\s+(?:of|with))?{_A}\s+{_LEVEL}"
    rf"(?:{_QUALITY_NOUN}|\s+in\s+(?:{_KIND}\s+){_SOME}quality)",
    # It is a poor picture. The picture is poor.
    "is": rf"\b{_THIS}{_IS}{_A}\s+{_LEVEL}(?:\s+{_IMAGE}\b|{_END})",
    # ..., resulting in poor image quality
    "so": rf"\b{_SO}{_A}\s+{_LEVEL}(?:{_QUALITY_NOUN}|\s+{_IMAGE}\b)",
    # this poor-quality image
    "mentioned": rf"\b{_LEVEL}(?:(?:\s+{_KIND}){_MANY}[-\s]+quality|"
    rf"[-\s]+quality(?:\s+{_IMAGE}\b|{_OF}))",
}
_CANDIDATE = re.compile(rf"\b{_ADJECTIVE}\b", re.IGNORECASE)
_PATTERNS = {name: re.compile(form, re.IGNORECASE) for name, form in _FORMS.items()}

_OPENER = (
    r"and|but|so|yet|thus|hence|therefore|overall|however|consequently|accordingly|finally|"
    r"generally|as a result|in (?:conclusion|summary|general|short|all|my opinion)|"
    r"to (?:sum up|conclude)|all in all|on the whole|generally speaking|i (?:think|believe)|"
    r"it can be (?:said|seen)|that|because of this|for (?:this|these) reasons?|"
    r"based on (?:this|these|the above)"
)
_LONGEST_OPENER = 40  # characters
_OPENER_AT_END = re.compile(rf"(?<!\w)(?:{_OPENER})$", re.IGNORECASE)
_NOT = re.compile(r"\b(?:not|never)\b|n['’]t\b", re.IGNORECASE)
_UNREAL = re.compile(
    r"\b(?:no|not|none|nor|never|without|lacks?|would|could|might|may|if|whether|expect\w*|usually|"
    r"typical\w*|normally|difficult)\b|n['’]t\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Statement:
    """A statement of the quality of an image, with its place in the sentence.

    Attributes:
        start: first character of the statement in its sentence.
        end: character after its last.
        form: ``quality``, ``has``, ``is`` and ``so`` are shapes of statements; ``mentioned`` only
            names the quality in passing.
        words: words for the quality, such as ``very poor``.
        level: level of these words.
    """

    start: int
    end: int
    form: str
    words: str
    level: str


def statements(sentence: str) -> Iterator[Statement]:
    """Find all statements and mentions of the quality of the whole image in a sentence."""
    if not _CANDIDATE.search(sentence):  # true of most sentences, and fast
        return
    doubt = _UNREAL.search(sentence)
    for form, pattern in _PATTERNS.items():
        for match in pattern.finditer(sentence):
            negated = _NOT.search(sentence, match.start(), match.start("words")) is not None
            level = level_of_words(match["words"], negated)
            size = "quality" not in match[0].lower() and match["adjective"].lower() in _SIZES
            # "The light of the image is good" is not about the image.
            elsewhere = form in ("has", "is") and not opens_clause(sentence, match.start())
            unreal = form == "so" and doubt and doubt.start() < match.start()
            if level and not (size or elsewhere or unreal):
                words = f"not {match['words']}" if negated else match["words"]
                yield Statement(match.start(), match.end(), form, words, level)


def level_of_words(words: str, negated: bool = False) -> str | None:
    """Level of free words for quality; ``None`` if they have none.

    Args:
        words: an adjective, with or without adverbs, such as ``quite good``.
        negated: true if ``not`` precedes the words.
    """
    adjective = re.search(rf"\b{_ADJECTIVE}$", words, re.IGNORECASE)
    if not adjective:
        return None
    level = _LEVEL_OF[re.sub(r"\s", "-", adjective[0].lower())]
    if negated:
        return _NEGATED.get(level)
    very = set(words.lower().split()) & set(_VERY.split())
    return _STRONGER.get(level, level) if very else level


def clause_end(sentence: str, start: int) -> int:
    """End of the text before a statement, without a comma, conjunction or "overall" between them.

    Args:
        sentence: the sentence that holds the statement.
        start: first character of the statement.
    """
    end = _stripped(sentence, start)
    while opener := _OPENER_AT_END.search(sentence, max(0, end - _LONGEST_OPENER), end):
        end = _stripped(sentence, opener.start())
    return end


def _stripped(sentence: str, end: int) -> int:
    while end and sentence[end - 1] in " \t,;:–—-":
        end -= 1
    return end


def opens_clause(sentence: str, start: int) -> bool:
    """True if a clause begins at ``start``: at the beginning, after a comma or a conjunction."""
    end = clause_end(sentence, start)
    return not end or any(not letter.isspace() for letter in sentence[end:start])
