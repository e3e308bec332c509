"""Words in common of generated texts and references, such as human-written ones.

A bag of words overlaps the more, the longer and the more usual a text is. The control therefore
compares every text with the references of another image of its data set: what a text has in common
with its own references beyond that is about its image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import groupby

import numpy as np

from lit_biqa.text.parsing import without_answer
from lit_biqa.text.rouge import Overlap, best_rouge1


@dataclass(frozen=True)
class ReferencedText:
    """Text that a model wrote about an image, with the references of the image.

    Attributes:
        dataset: catalogue name of the data set.
        split: name of the split.
        condition: condition of the text.
        index: row in the data set.
        text: the completion; its answer and its tags do not count.
        references: texts about the image, at least one.
    """

    dataset: str
    split: str
    condition: str
    index: int
    text: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class Overlaps:
    """Mean ROUGE-1 over the images of a data set that have references; shares on [0, 1].

    Attributes:
        dataset: catalogue name of the data set.
        split: name of the split.
        condition: condition of the texts.
        n: number of images with references; a text without words counts as 0.
        precision: share of the words of a text that its reference has.
        recall: share of the words of a reference that its text has.
        f: harmonic mean of the two for each image; the reference with the highest one counts.
        shuffled_precision: precision with the references of another image; ``nan`` if n is 1.
        shuffled_recall: recall likewise.
        shuffled_f: harmonic mean likewise.
    """

    dataset: str
    split: str
    condition: str
    n: int
    precision: float
    recall: float
    f: float
    shuffled_precision: float
    shuffled_recall: float
    shuffled_f: float


COLUMNS = (*(field.name for field in fields(Overlaps)), "weights")
"""Columns of `rouge.csv`."""


def identity(text: ReferencedText) -> tuple[str, str, str, int]:
    """Identity of a text, and the order of texts."""
    return text.dataset, text.split, text.condition, text.index


def overlaps(texts: Sequence[ReferencedText], seed: int = 0) -> list[Overlaps]:
    """Mean ROUGE-1 of each data set and condition; conditions whose texts are all empty have none.

    Args:
        texts: texts of all images, free of repeats.
        seed: seed of the control.
    """
    lines = []
    for key, group in groupby(sorted(texts, key=identity), lambda text: identity(text)[:3]):
        held = list(group)
        if any(each.text for each in held):
            lines.append(Overlaps(*key, len(held), *_means(held, seed)))
    return lines


def _means(texts: Sequence[ReferencedText], seed: int) -> list[float]:
    """Means of precision, recall and F, then those of the control."""
    written = [without_answer(each.text) for each in texts]
    own = [each.references for each in texts]
    others = [texts[place].references for place in another(len(texts), seed)]
    return [
        *_mean([best_rouge1(*pair) for pair in zip(written, own, strict=True)]),
        *_mean([best_rouge1(*pair) for pair in zip(written, others, strict=False)]),
    ]


def _mean(found: Sequence[Overlap]) -> list[float]:
    if not found:
        return [math.nan] * 3
    shares = np.array([(each.precision, each.recall, each.f) for each in found])
    return [float(mean) for mean in shares.mean(axis=0)]


def another(count: int, seed: int) -> list[int]:
    """For each of some images another one, each taken once; none if there is no other.

    Images in a random circle: each takes the one before it.
    """
    if count < 2:
        return []
    circle = np.random.default_rng(seed).permutation(count)
    taken = np.empty(count, dtype=int)
    taken[circle] = np.roll(circle, 1)
    return [int(place) for place in taken]
