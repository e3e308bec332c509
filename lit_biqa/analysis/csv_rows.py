"""Columns that identify a sample in the files of a study."""

from __future__ import annotations

from typing import NamedTuple

from lit_biqa.types import Batch

COLUMNS = ("dataset", "split", "index", "name")


class Who(NamedTuple):
    """A sample; its fields are the first columns of every file with one line per sample.

    Attributes:
        dataset: catalogue name of the data set.
        split: name of the split.
        row: row in the data set.
        name: file name.
    """

    dataset: str
    split: str
    row: int
    name: str


def who(batch: Batch, row: int) -> Who:
    """Sample of a row of a batch."""
    index = int(batch["index"][row])
    return Who(batch["dataset"][row], batch["split"][row], index, batch["name"][row])
