"""Feedbacks on quality taken apart: what is described, and what is concluded from it.

A Q-Pathway feedback describes an image and then concludes its quality in free words. Two-stage
tuning learns the description from the image and the conclusion from the description (Building
Reasonable Inference for VLMs in BIQA, section 3.4). That paper gives no rules for the cut; these
follow the forms that the Q-Instruct paper (Wu et al., 2024, figures 2 to 4) shows. A feedback that
none of them fits keeps all its text and has no level.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from lit_biqa.text.levels import LEVELS
from lit_biqa.text.statements import Statement, clause_end, opens_clause, statements

# Of several end marks only the last has space behind it; reading "[.!?]+" from each is quadratic.
SENTENCE = re.compile(r"\S.*?(?:[.!?](?=\s|$)|$)", re.MULTILINE)
_PARTICIPLE = re.compile(r"which\b|\w+ing\b", re.IGNORECASE)
_BREAK = re.compile(r"[,;:]\s+(?:and\s+)?(?=(?:which|so|thus|hence|therefore|\w+ing)\b)", re.I)
_REASON = re.compile(
    r"\s*[,;:]\s*|\s+(?=(?:because|due to|owing to|since|as(?! a whole)|with|but|although|though|"
    r"despite|while)\b)|\s+and\s+(?=(?:the|its|it|this|there)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Feedback:
    """A feedback taken apart.

    Attributes:
        description: the text without its conclusion; all of it where none was found.
        conclusion: the sentence or clause that concludes the quality, empty where none was found.
        words: what the conclusion calls the quality, such as ``very poor``.
        level: the level these words mean, ``None`` where no conclusion was found.
        restated: levels that the description names too. With them in it, concluding from the
            description is copying.
    """

    description: str
    conclusion: str = ""
    words: str = ""
    level: str | None = None
    restated: tuple[str, ...] = ()


def decompose(text: str) -> Feedback:
    """Part a feedback into description and conclusion.

    The conclusion is the last sentence that states the quality of the whole image or, where the
    statement is a clause of its own ("..., resulting in poor image quality"), that clause.
    Reasons that follow it stay in the description.

    Args:
        text: one feedback, in English.

    Returns:
        Its parts. Words of a range ("average to good") conclude nothing.
    """
    for sentence in reversed(list(SENTENCE.finditer(text))):
        stated = (each for each in statements(sentence[0]) if each.form != "mentioned")
        if last := max(stated, key=lambda each: (each.end, -each.start), default=None):
            before, conclusion, after = _cut(sentence[0], last)
            parts = text[: sentence.start()], before, after, text[sentence.end() :]
            rest = " ".join(part.strip() for part in parts if part.strip())
            return Feedback(rest, conclusion, last.words, last.level, named_levels(rest))
    return Feedback(text.strip(), restated=named_levels(text))


def named_levels(text: str) -> tuple[str, ...]:
    """Levels that a text names for the quality of the whole image, one for each such sentence."""
    found = (list(statements(sentence[0])) for sentence in SENTENCE.finditer(text))
    return tuple(max(each, key=lambda stated: stated.end).level for each in found if each)


def _cut(sentence: str, stated: Statement) -> tuple[str, str, str]:
    """What stands before the concluding clause, the clause, and the reasons after it."""
    head, tail = sentence[: stated.start], sentence[stated.end :]
    before = ""
    participle = stated.form == "so" and _PARTICIPLE.match(sentence, stated.start)
    if participle or opens_clause(sentence, stated.start):
        before = sentence[: clause_end(sentence, stated.start)]
    elif breaks := list(_BREAK.finditer(head)):
        before = head[: breaks[-1].start()]
    after, reason = "", _REASON.match(tail)
    if reason and len(tail[reason.end() :].split()) > 1:
        after = tail[reason.end() :].rstrip(".!? ")
        tail = tail[: reason.start()]
    conclusion = (sentence[len(before) : stated.end] + tail).strip(" ,;:–—-")
    return before and f"{before}.", conclusion, after and f"{after[0].upper()}{after[1:]}."


@dataclass(frozen=True)
class Coverage:
    """How far the rules reach in a set of feedbacks; ``str`` gives lines to read.

    Attributes:
        total: number of feedbacks.
        levels: number of conclusions of each level, in the order of `LEVELS`.
        bare: of those with a conclusion, how many have no description beside it.
        restated: of those with a conclusion, how many name a level in the description too.
        unmatched: ends of the texts without a conclusion.
    """

    total: int
    levels: dict[str, int]
    bare: int
    restated: int
    unmatched: tuple[str, ...]

    @property
    def matched(self) -> int:
        """Number of feedbacks with a conclusion."""
        return self.total - len(self.unmatched)

    def __str__(self) -> str:
        levels = ", ".join(f"{count} {level}" for level, count in self.levels.items())
        lines = [
            f"{self.matched} of {self.total} feedbacks conclude the quality: {levels}",
            f"{self.restated} of them name a level in the description too, {self.bare} have none",
            f"{len(self.unmatched)} without a conclusion stay whole",
        ]
        return "\n".join(lines + [f"  such as: ...{text}" for text in self.unmatched[:3]])


def coverage(feedbacks: Iterable[Feedback]) -> Coverage:
    """Count what `decompose` found."""
    rows = list(feedbacks)
    matched = [row for row in rows if row.level]
    counts = Counter(row.level for row in matched)
    return Coverage(
        total=len(rows),
        levels={level: counts[level] for level in LEVELS},
        bare=sum(not row.description for row in matched),
        restated=sum(bool(row.restated) for row in matched),
        unmatched=tuple(row.description[-80:] for row in rows if not row.level),
    )
