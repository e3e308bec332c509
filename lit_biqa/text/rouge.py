"""ROUGE-1: how many words two texts share, word order aside."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"\b\w+\b")

_FUNCTION = (
    "a an the this that these those and or but nor so as if than then of in on at to for from by "
    "with into over under it its he she they them their we our you your i my is are was were be "
    "been being am do does did has have had there here which who what very"
)
FUNCTION_WORDS = frozenset(_FUNCTION.split())
"""English words that carry no judgement, to be left out of a comparison if so wished."""


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
    """Overlap of single words, lower-case, digits removed; each counts as often as in both texts.

    Args:
        text: what a model wrote.
        reference: what a person wrote.
        left_out: words that do not count, in lower case, such as `FUNCTION_WORDS`.

    Returns:
        All zero where either text has no words.

    Source: Lin (2004), without stemming. Digits are removed so that a number rewards no text.
    """
    words, wanted = _words(text, left_out), _words(reference, left_out)
    common = sum((words & wanted).values())
    if not common:
        return Overlap(0.0, 0.0, 0.0)
    precision, recall = common / sum(words.values()), common / sum(wanted.values())
    return Overlap(precision, recall, 2 * precision * recall / (precision + recall))


def _words(text: str, left_out: Collection[str]) -> Counter[str]:
    found = _WORD.findall(_DIGITS.sub(" ", text.lower()))
    return Counter(word for word in found if word not in left_out)
