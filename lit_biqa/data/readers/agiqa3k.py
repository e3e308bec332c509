"""AGIQA-3k (Li et al. 2023): 2,982 generated images.

The quality score runs from 0 to 4.49, not from 1 to 5. Prompts in ``data.csv`` hold commas
within quotes.
"""

from __future__ import annotations

from pathlib import Path

from lit_biqa.data.readers.entry import Entry, Label
from lit_biqa.data.readers.tables import csv_rows, existing


def read(folder: Path) -> list[Label]:
    """Labels from ``data.csv``: ``mos_quality`` and ``std_quality``, not the alignment scores."""
    rows = csv_rows(existing(folder, "data.csv"), ("name", "mos_quality", "std_quality"))
    return [
        Label(row.text("name"), row.number("mos_quality"), row.number("std_quality", least=0.0))
        for row in rows
    ]


ENTRY = Entry(
    name="agiqa3k",
    title="AGIQA-3k",
    source="https://github.com/lcysyzxdxc/AGIQA-3k-Database",
    folders=("AGIQA-3K",),
    images=((".",), ("images",)),
    read=read,
    count=2982,
    low=0.0,
    high=4.488740784,
    digest="71af72c8",
)
