"""The words every room shares: samples, batches, predictions and the one error for bad input."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from torch import Tensor


class InputError(ValueError):
    """Something a person gave is wrong. The message says what, where, and what to do next.

    The command line prints it as one line, without a traceback, and exits with status 2.
    """


@dataclass(frozen=True)
class Sample:
    """One image and what its data set says of it.

    Attributes:
        dataset: catalogue name, such as ``koniq10k``, or the stem of a user's own CSV.
        split: name of the split it was taken from, such as ``official`` or ``random-0``.
        index: its row in the data set, the same in every split; identifies it in results.
        name: file name as the label file writes it.
        path: where the image lies.
        mos: mean opinion score on [1, 5], 5 best; ``nan`` where unknown.
        std: standard deviation of single ratings on the same scale; ``nan`` where unknown.
        reference: name of the pristine source, for data sets that have one.
        texts: texts about this image, such as reasoning sampled from a trained model.
    """

    dataset: str
    split: str
    index: int
    name: str
    path: Path
    mos: float = math.nan
    std: float = math.nan
    reference: str | None = None
    texts: tuple[str, ...] = ()


class Batch(TypedDict):
    """What a DataLoader hands to a method; B samples, columns by name.

    ``pixels`` is what the backbone's transform made: ``[B, 3, H, W]`` where every image has the
    same shape, else a list. ``text`` is one text per sample, empty where the sample has none.
    ``status`` is ``ok``, or why the image could not be read (its pixels are then a stand-in).
    """

    pixels: Any
    mos: Tensor
    std: Tensor
    index: Tensor
    dataset: list[str]
    split: list[str]
    name: list[str]
    text: list[str]
    status: list[str]


@dataclass(frozen=True)
class Prediction:
    """One scored image: a row of ``predictions.csv`` and of every metric.

    Attributes:
        dataset: catalogue name of the data set.
        split: name of the split.
        index: row in the data set; with data set, split and condition it identifies the row.
        name: file name.
        mos: mean opinion score on [1, 5]; ``nan`` where unknown.
        score: predicted score on [1, 5]; ``nan`` where none could be made.
        condition: what the score was read from; ``image`` where nothing else is meant.
        status: ``ok``, or why there is no score.
    """

    dataset: str
    split: str
    index: int
    name: str
    mos: float
    score: float
    condition: str = "image"
    status: str = "ok"


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the known names nearest to a wrong one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f". Did you mean {' or '.join(close)}?"
    return f". Known: {', '.join(names)}."
