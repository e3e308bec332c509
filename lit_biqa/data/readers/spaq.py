"""SPAQ (Fang et al. 2020): 11,125 smartphone photographs.

The authors' workbook has no deviation of ratings. Their archive is a split zip (``SPAQ.z01`` ..
``SPAQ.zip``) that plain unzip does not open; ``7z x SPAQ.zip`` does.
"""

from __future__ import annotations

from pathlib import Path

from lit_biqa.data.readers.entry import Entry, Label
from lit_biqa.data.readers.tables import existing
from lit_biqa.data.readers.workbooks import sheet_rows


def read(folder: Path) -> list[Label]:
    """Labels from ``Annotations/MOS and Image attribute scores.xlsx``, first sheet."""
    path = existing(folder / "Annotations", "MOS and Image attribute scores.xlsx")
    rows = sheet_rows(path, ("Image name", "MOS"))
    return [Label(row.text("Image name"), row.number("MOS")) for row in rows]


ENTRY = Entry(
    name="spaq",
    title="SPAQ",
    source="https://github.com/h4nwei/SPAQ",
    folders=("SPAQ",),
    images=(("TestImage",), ("SPAQ zip/TestImage",), ("Dataset/TestImage",)),
    read=read,
    count=11125,
    low=2.0,
    high=96.0,
    # two public lists derived from the workbook agree to 4e-15
    derived_digest="a609d9ca",
    lists={
        "qalign": {"train": "train_spaq.json", "test": "test_spaq.json"},
        "deqa": {"train": "train_spaq_9k.json", "test": "test_spaq_2k.json"},
    },
)
