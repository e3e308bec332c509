"""Completions taken apart: the tagged pieces of what a model wrote, and the rating in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

_ANSWER = re.compile(r"<answer>.*?(?:</answer>|\Z)", re.DOTALL)
_ANSWERED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_TAG = re.compile(r"</?(?:caption|think|answer)>")
_RATING = re.compile(r'"rating"\s*:\s*("[^"]*"|[^\s,}]*)')
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_DEGRADATION = re.compile(
    r'"distortion_class"\s*:\s*"([^"]+)".*?"severity"\s*:\s*"([^"]+)"', re.DOTALL
)

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
    answers: list[str] = _ANSWERED.findall(completion)
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
    answer = _ANSWERED.search(completion)
    found = _DEGRADATION.search(answer[1]) if answer else None
    return (found[1].strip(), found[2].strip()) if found else None


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
    found = re.search(rf"<{re.escape(tag)}>(.*?)</{re.escape(tag)}>", completion, re.DOTALL)
    return without_answer(found[1]) if found else None


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
    return _formatted(completion, tags, _strict, r"\s*\n") is not None


def leniently_formatted(completion: str, tags: Sequence[str] = REASONED) -> bool:
    """Whether a completion is nothing but these tags, with at most white space between them.

    Source: VisualQuality-R1's format reward.
    """
    return _formatted(completion, tags, lambda tag: rf"<{tag}>.*?</{tag}>", r"\s*") is not None


def _formatted(
    completion: str, tags: Sequence[str], block: Callable[[str], str], between: str
) -> re.Match[str] | None:
    return re.fullmatch(between.join(map(block, tags)) + r"\s*", completion, re.DOTALL)


def _strict(tag: str) -> str:
    content = r"\{[^{}]*\}\s*\n" if tag == "answer" else r".*?\n"
    return rf"<{tag}>\s*\n{content}\s*</{tag}>"
