"""Completion parser: the tagged parts of a completion, and its rating."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

# A collapsed model can repeat one tag, or one new line, without end. Every pattern here therefore
# takes linear time; tests/text/test_linear.py checks it.
_ANSWER = re.compile(r"<answer>.*?(?:</answer>|\Z)", re.DOTALL)
_TAG = re.compile(r"</?(?:caption|think|answer)>")
_RATING = re.compile(r'"rating"\s*:\s*("[^"]*"|[^\s,}]*)')
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_CLASS = re.compile(r'"distortion_class"\s*:\s*"([^"]+)"')
_SEVERITY = re.compile(r'"severity"\s*:\s*"([^"]+)"')

Form = Literal["json", "number", "boxed"]

OUTSIDE = "out of range"
"""Status of a score outside [1, 5]."""

REASONED = ("think", "answer")
"""Tags of a completion that reasons and then answers, in their order."""


@dataclass(frozen=True)
class Reading:
    """Parts of a parsed completion.

    Attributes:
        score: its rating on [1, 5]; ``None`` unless the status is ``ok``.
        caption: text before ``<think>``, without answer and tags; empty without ``<think>``.
        reasoning: text inside ``<think>``; empty if the tag is absent or never closed.
        status: ``ok``, or the reason for the missing score: ``empty``, ``no answer``,
            ``unclosed answer``, ``nested tags``, ``no rating``, ``several ratings``,
            ``not a number`` or ``out of range``.
    """

    score: float | None
    caption: str
    reasoning: str
    status: str


def read(completion: str, form: Form = "json") -> Reading:
    r"""Parse a completion; one that cannot be parsed has a status and no score.

    Args:
        completion: text that the model wrote.
        form: ``json`` takes ``"rating"`` from the first closed answer, as Q-Insight does;
            ``number`` takes the first signed number of the last closed answer, as
            VisualQuality-R1 does, which guesses a random score if there is none; ``boxed`` takes
            the first signed number of the last ``\boxed{...}``.

    Returns:
        Its parts. Unlike in both sources, a rating outside [1, 5] gives no score, and neither do
        several different ratings in one JSON answer.

    Example:
        ``<think>sharp</think><answer>{"rating": 4.2}</answer>`` has score 4.2 and reasoning
        ``sharp``.
    """
    score, status = _score(completion, form)
    caption = without_answer(before_think(completion) or "")
    return Reading(score, caption, tagged(completion, "think") or "", status)


def rating_span(completion: str, form: Form = "json") -> tuple[int, int] | None:
    """Start and end of the rating that `read` takes from a completion; ``None`` without a score.

    Example:
        >>> rating_span('<answer>{"rating": 4.2}</answer>')
        (19, 22)
    """
    span = _answer_span(completion, form)
    if span is None or _score(completion, form)[0] is None:
        return None
    pattern = _RATING if form == "json" else _NUMBER
    match = pattern.search(completion, *span)
    assert match is not None, "the completion has a score"
    return match.span(pattern.groups)  # the group of the number, or the whole


def text_spans(completion: str) -> dict[str, tuple[int, int]]:
    """Start and end of ``caption``, the text before ``<think>``, and ``reasoning``, inside it.

    Both are absent without ``<think>``; an unclosed reasoning reaches to the end. Tags of a caption
    lie outside of it.
    """
    at = completion.find("<think>")
    if at < 0:
        return {}
    begin = at + len("<think>")
    end = completion.find("</think>", begin)
    spans = {"reasoning": (begin, end if end >= 0 else len(completion))}
    start = completion[:at].find("<caption>")
    stop = completion[:at].find("</caption>")
    first = start + len("<caption>") if start >= 0 else 0
    return {"caption": (first, stop if stop >= first else at)} | spans


def _score(completion: str, form: Form) -> tuple[float | None, str]:
    if not completion.strip():
        return None, "empty"
    span = _answer_span(completion, form)
    if span is None:
        begun = r"\boxed{" if form == "boxed" else "<answer>"
        return None, "unclosed answer" if begun in completion else "no answer"
    answer = completion[slice(*span)]
    if _TAG.search(answer):
        return None, "nested tags"
    ratings = _RATING.findall(answer) if form == "json" else _NUMBER.findall(answer)[:1]
    if not ratings:
        return None, "no rating"
    if len(set(ratings)) > 1:
        return None, "several ratings"
    if not _NUMBER.fullmatch(ratings[0]):
        return None, "not a number"
    score = float(ratings[0])
    return (score, "ok") if on_scale(score) else (None, OUTSIDE)


def _answer_span(completion: str, form: Form) -> tuple[int, int] | None:
    """Start and end of the closed answer whose rating counts: the first in JSON, else the last."""
    if form == "boxed":
        spans = [match.span(1) for match in _BOXED.finditer(completion)]
    else:
        spans = list(_spans(completion, "answer"))
    return None if not spans else spans[0 if form == "json" else -1]


def on_scale(score: float) -> bool:
    """True for a score on [1, 5]; any other is a failure, of our models and in files of others."""
    return 1 <= score <= 5


def read_degradation(completion: str) -> tuple[str, str] | None:
    """Distortion class and severity of the first answer; ``None`` if one of them is missing.

    Source: Q-Insight, degradation task with the keys ``distortion_class`` and ``severity``.
    """
    answer = next(_closed(completion, "answer"), "")
    kind = _CLASS.search(answer)
    # A severity after a later class also follows the first class.
    severity = _SEVERITY.search(answer, kind.end()) if kind else None
    return (kind[1].strip(), severity[1].strip()) if kind and severity else None


def before_think(completion: str) -> str | None:
    """Text before the first ``<think>``, tags included, answers removed; ``None`` without the tag.

    *Understanding Pure Textual Reasoning* gives this text to its text-only pass.
    """
    head, think, _ = completion.partition("<think>")
    return _ANSWER.sub("", head) if think else None


def without_answer(completion: str) -> str:
    """Completion without its ``<answer>`` parts and without tags, stripped.

    The answer holds the rating, and a caption for the text-only pass must not carry the number. An
    answer that was cut off before its closing tag is removed to the end.
    """
    return _TAG.sub("", _ANSWER.sub("", completion)).strip()


def tagged(completion: str, tag: str) -> str | None:
    """Text between the first ``<tag>`` and the next ``</tag>``, without answers and stray tags.

    Args:
        completion: text that the model wrote.
        tag: name without brackets, such as ``think`` or ``caption``.

    Returns:
        The text, stripped; ``None`` if the tag is absent or never closed.
    """
    text = next(_closed(completion, tag), None)
    return None if text is None else without_answer(text)


def _closed(text: str, tag: str) -> Iterator[str]:
    """Texts between each ``<tag>`` and the next ``</tag>``, without overlap."""
    yield from (text[start:stop] for start, stop in _spans(text, tag))


def _spans(text: str, tag: str) -> Iterator[tuple[int, int]]:
    opening, closing, end = f"<{tag}>", f"</{tag}>", 0
    while (start := text.find(opening, end)) >= 0:
        start += len(opening)
        stop = text.find(closing, start)
        if stop < 0:  # later tags are not closed either
            return
        yield start, stop
        end = stop + len(closing)


def wrapped(tag: str, text: str) -> str:
    """Text between its tags, each on a line of its own, as strict formats require."""
    return f"<{tag}>\n{text}\n</{tag}>"


def answered(rating: float) -> str:
    """Rating in the form that Q-Insight's prompt asks for: two decimals, JSON, answer tags."""
    return wrapped("answer", f'{{"rating": {rating:.2f}}}')


def strictly_formatted(completion: str, tags: Sequence[str] = REASONED) -> bool:
    """True if a completion is exactly these tags, each on a line, with JSON as its answer.

    Tags and contents stand on lines of their own; the answer is one pair of braces.

    Args:
        completion: text that the model wrote.
        tags: names without brackets, in their order.

    Source: Q-Insight's format reward.
    """
    return _formatted(completion, _strict(tuple(tags)))


def leniently_formatted(completion: str, tags: Sequence[str] = REASONED) -> bool:
    """True if a completion is exactly these tags, with at most white space between them.

    Source: VisualQuality-R1's format reward.
    """
    return _formatted(completion, _lenient(tuple(tags)))


def prefix_formatted(completion: str, tags: Sequence[str] = REASONED) -> bool:
    """True if a completion begins with these tags, each on a line, whatever they hold.

    Tags and contents stand on lines of their own; the answer need not be JSON, and anything may
    follow it.

    Source: format reward of the Autoencoder in the released code of *Understanding Pure Textual
    Reasoning*.
    """
    return _formatted(completion, _prefix(tuple(tags)))


def _formatted(completion: str, pieces: Sequence[re.Pattern[str]]) -> bool:
    """True if a text consists of these pieces, in order, with anything between them.

    If any match exists, one exists with each piece at its first place: one search per piece.
    """
    end = 0
    for place, piece in enumerate(pieces):
        match = piece.search(completion, end) if place else piece.match(completion)
        if match is None:
            return False
        end = match.end()
    return True


@cache
def _strict(tags: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """Pieces of the strict format: each tag and its content on lines of their own."""
    lines = r"\s*\n".join(map(_strict_block, tags))
    return _compiled(lines)


@cache
def _prefix(tags: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """Pieces of the prefix format."""
    lines = r"\s*\n".join(map(_block, map(re.escape, tags)))
    return tuple(map(re.compile, lines.split(_ANYTHING)))


@cache
def _lenient(tags: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """Pieces of the lenient format."""
    return _compiled(r"\s*".join(f"<{tag}>{_ANYTHING}</{tag}>" for tag in map(re.escape, tags)))


_ANYTHING = "\0"  # separates the pieces of a format


def _strict_block(tag: str) -> str:
    tag = re.escape(tag)
    if tag == "answer":
        return rf"<{tag}>\s*\n\{{[^{{}}]*\}}\s*{_closing(tag)}"
    return _block(tag)


def _block(tag: str) -> str:
    return rf"<{tag}>\s*?\n{_ANYTHING}{_closing(tag)}"


def _closing(tag: str) -> str:
    # The last new line before the tag: "\n\s*" would scan a run of white space again from each of
    # its new lines.
    return rf"\n[^\S\n]*</{tag}>"


def _compiled(form: str) -> tuple[re.Pattern[str], ...]:
    return tuple(map(re.compile, rf"{form}\s*\Z".split(_ANYTHING)))
