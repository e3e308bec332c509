"""ROUGE-1: overlap of the words of two texts, regardless of word order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"\b\w+\b")

_FUNCTION = (
    "a an the this that these those and or but nor so as if than then of in on at to for from by "
    "with into over under it its he she they them their we our you your i my is are was were be "
    "been being am do does did has have had there here which who what very"
)
FUNCTION_WORDS = frozenset(_FUNCTION.split())
"""English words that carry no judgement; a comparison may leave them out."""


@dataclass(frozen=True)
class Overlap:
    """Shares on [0, 1] of the words that two texts have in common.

    Attributes:
        precision: of the words of the text.
        recall: of the words of the reference.
        f: harmonic mean of the two.
    """

    precision: float
    recall: float
    f: float


def rouge1(text: str, reference: str, left_out: Collection[str] = ()) -> Overlap:
    """Overlap of single words in lower case, digits removed; repeated words count repeatedly.

    Args:
        text: written by a model.
        reference: written by a person.
        left_out: words in lower case that do not count, such as `FUNCTION_WORDS`.

    Returns:
        The overlap; all zero if either text has no words.

    Source: Lin (2004), without stemming. Digits are removed so that numbers earn no reward.
    """
    words, expected = _words(text, left_out), _words(reference, left_out)
    common = sum((words & expected).values())
    if not common:
        return Overlap(0.0, 0.0, 0.0)
    precision, recall = common / sum(words.values()), common / sum(expected.values())
    return Overlap(precision, recall, 2 * precision * recall / (precision + recall))


def best_rouge1(text: str, references: Iterable[str]) -> Overlap:
    """Overlap with the reference of the highest F; all zero without references.

    >>> best_rouge1("a sharp dog", ["noise", "a dog"])
    Overlap(precision=0.6666666666666666, recall=1.0, f=0.8)

    Args:
        text: written by a model.
        references: written by people about the same image.
    """
    overlaps = (rouge1(text, reference) for reference in references)
    return max(overlaps, key=lambda overlap: overlap.f, default=Overlap(0.0, 0.0, 0.0))


def _words(text: str, left_out: Collection[str]) -> Counter[str]:
    words = _WORD.findall(_DIGITS.sub(" ", text.lower()))
    return Counter(word for word in words if word not in left_out)
