"""The embedded data set, as `lit_biqa.data.synthetic` writes it: made from a seed, on [1, 5]."""

from __future__ import annotations

from pathlib import Path

from lit_biqa.data.readers.entry import Entry, Label
from lit_biqa.data.readers.own import merged
from lit_biqa.data.readers.tables import csv_rows, existing


def read(folder: Path) -> list[Label]:
    """Labels from ``labels.csv``, columns ``name,mos,std,reference,text``."""
    columns = ("name", "mos", "std", "reference", "text")
    return merged(csv_rows(existing(folder, "labels.csv"), columns), "name")


ENTRY = Entry(
    name="synthetic",
    title="The synthetic data set",
    source="lit_biqa.data.synthetic.generate",
    folders=("synthetic", "."),  # the data module looks in the folder of its settings itself
    images=(("images",),),
    read=read,
    count=None,
    low=1.0,
    high=5.0,
    split="reference-0",
)
