"""Completions taken apart: the tagged pieces of what a model wrote, and the rating in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

# A model that has collapsed writes one tag, or one new line, without end. So nothing here looks at
# a character more often than a fixed number of times; tests/text/test_linear.py holds it to that.
_ANSWER = re.compile(r"<answer>.*?(?:</answer>|\Z)", re.DOTALL)
_TAG = re.compile(r"</?(?:caption|think|answer)>")
_RATING = re.compile(r'"rating"\s*:\s*("[^"]*"|[^\s,}]*)')
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_CLASS = re.compile(r'"distortion_class"\s*:\s*"([^"]+)"')
_SEVERITY = re.compile(r'"severity"\s*:\s*"([^"]+)"')

Form = Literal["json", "number"]

REASONED = ("think", "answer")
"""Tags of a completion that reasons and then answers, in their order."""


@dataclass(frozen=True)
class Reading:
    """What a completion says.

    Attributes:
        score: its rating on [1, 5]; ``None`` unless the status is ``ok``.
        caption: what stands before ``<think>``, without answer and tags; empty without ``<think>``.
        reasoning: what stands in ``<think>``; empty where it is absent or never closed.
        status: ``ok``, or why there is no score: ``empty``, ``no answer``, ``unclosed answer``,
            ``nested tags``, ``no rating``, ``several ratings``, ``not a number`` or
            ``out of range``.
    """

    score: float | None
    caption: str
    reasoning: str
    status: str


def read(completion: str, form: Form = "json") -> Reading:
    """Take a completion apart; whatever cannot be parsed has a status and no score.

    Args:
        completion: what the model wrote.
        form: ``json`` takes ``"rating"`` from the first closed answer, as Q-Insight does;
            ``number`` takes the first signed number of the last closed answer, as VisualQuality-R1
            does, which however guesses a random score where there is none.

    Returns:
        Its parts. Unlike in both sources a rating outside [1, 5] is none, and neither is one of
        several different ratings in one JSON answer.
    """
    score, status = _score(completion, form)
    caption = without_answer(before_think(completion) or "")
    return Reading(score, caption, tagged(completion, "think") or "", status)


def _score(completion: str, form: Form) -> tuple[float | None, str]:
    if not completion.strip():
        return None, "empty"
    answers = list(_closed(completion, "answer"))
    if not answers:
        return None, "unclosed answer" if "<answer>" in completion else "no answer"
    answer = answers[0] if form == "json" else answers[-1]
    if _TAG.search(answer):
        return None, "nested tags"
    found = _RATING.findall(answer) if form == "json" else _NUMBER.findall(answer)[:1]
    if not found:
        return None, "no rating"
    if len(set(found)) > 1:
        return None, "several ratings"
    if not _NUMBER.fullmatch(found[0]):
        return None, "not a number"
    score = float(found[0])
    return (score, "ok") if 1 <= score <= 5 else (None, "out of range")


def read_degradation(completion: str) -> tuple[str, str] | None:
    """Class and severity that the first answer names, ``None`` where it does not name both.

    Source: Q-Insight, the degradation task: its keys ``distortion_class`` and ``severity``.
    """
    answer = next(_closed(completion, "answer"), "")
    kind = _CLASS.search(answer)
    # One that follows a later class follows the first as well.
    severity = _SEVERITY.search(answer, kind.end()) if kind else None
    return (kind[1].strip(), severity[1].strip()) if kind and severity else None


def before_think(completion: str) -> str | None:
    """What stands before the first ``<think>``, tags included but no answer; ``None`` without it.

    This is what *Understanding Pure Textual Reasoning* hands on to its text-only pass.
    """
    head, think, _ = completion.partition("<think>")
    return _ANSWER.sub("", head) if think else None


def without_answer(completion: str) -> str:
    """Text of a completion with its ``<answer>`` part left out, tags removed, ends stripped.

    The answer holds the rating: a text that is to stand for what the model saw must not carry
    the number. An answer that was cut off before its closing tag is left out to the end.
    """
    return _TAG.sub("", _ANSWER.sub("", completion)).strip()


def tagged(completion: str, tag: str) -> str | None:
    """Text between the first ``<tag>`` and the next ``</tag>``, without answers and stray tags.

    Args:
        completion: what the model wrote.
        tag: name without brackets, such as ``think`` or ``caption``.

    Returns:
        The text, stripped; ``None`` where the tag is absent or never closed.
    """
    found = next(_closed(completion, tag), None)
    return None if found is None else without_answer(found)


def _closed(text: str, tag: str) -> Iterator[str]:
    """What stands between each ``<tag>`` and the next ``</tag>``, none within another."""
    opening, closing, end = f"<{tag}>", f"</{tag}>", 0
    while (start := text.find(opening, end)) >= 0:
        start += len(opening)
        stop = text.find(closing, start)
        if stop < 0:  # nor will it be for those that follow
            return
        yield text[start:stop]
        end = stop + len(closing)


def wrapped(tag: str, text: str) -> str:
    """A text between its tags, each on a line of its own, as strict formats want it."""
    return f"<{tag}>\n{text}\n</{tag}>"


def answered(rating: float) -> str:
    """A rating as Q-Insight's prompt asks for it, with two decimals, in its tags."""
    return wrapped("answer", f'{{"rating": {rating:.2f}}}')


def strictly_formatted(completion: str, tags: Sequence[str] = REASONED) -> bool:
    """Whether a completion is nothing but these tags, each on a line, with JSON as its answer.

    Tags and contents stand on lines of their own; the answer is in braces and holds no others.

    Args:
        completion: what the model wrote.
        tags: names without brackets, in their order.

    Source: Q-Insight's format reward.
    """
    return _formatted(completion, _strict(tuple(tags)))


def leniently_formatted(completion: str, tags: Sequence[str] = REASONED) -> bool:
    """Whether a completion is nothing but these tags, with at most white space between them.

    Source: VisualQuality-R1's format reward.
    """
    return _formatted(completion, _lenient(tuple(tags)))


def _formatted(completion: str, pieces: Sequence[re.Pattern[str]]) -> bool:
    """Whether a text is these pieces, in their order, with anything between them.

    What fits at all fits with each piece where it first ends: one search for each, and none again.
    """
    end = 0
    for place, piece in enumerate(pieces):
        found = piece.search(completion, end) if place else piece.match(completion)
        if found is None:
            return False
        end = found.end()
    return True


@cache
def _strict(tags: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """Pieces of the strict format: each tag and what it holds on lines of their own."""
    lines = r"\s*\n".join(map(_strict_block, tags))
    return _compiled(lines)


@cache
def _lenient(tags: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """Pieces of the lenient format."""
    return _compiled(r"\s*".join(f"<{tag}>{_ANYTHING}</{tag}>" for tag in map(re.escape, tags)))


_ANYTHING = "\0"  # parts the pieces of a format


def _strict_block(tag: str) -> str:
    # Before a closing tag its last new line is looked for: "\n\s*" would read every run of white
    # space again from each of its new lines.
    closing, tag = rf"\n[^\S\n]*</{re.escape(tag)}>", re.escape(tag)
    if tag == "answer":
        return rf"<{tag}>\s*\n\{{[^{{}}]*\}}\s*{closing}"
    return rf"<{tag}>\s*?\n{_ANYTHING}{closing}"


def _compiled(form: str) -> tuple[re.Pattern[str], ...]:
    return tuple(map(re.compile, rf"{form}\s*\Z".split(_ANYTHING)))
