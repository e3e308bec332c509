"""KADID-10k (Lin et al. 2019): 81 references, 25 distortions at 5 levels, 10,125 images.

The label file's ``dmos`` is higher for better images, and ``var`` is the variance of the ratings,
not their deviation; it can be 0.
"""

from __future__ import annotations

import math
from pathlib import Path

from lit_biqa.data.readers.entry import Entry, Label
from lit_biqa.data.readers.tables import Row, csv_rows, existing


def read(folder: Path) -> list[Label]:
    """Labels from ``dmos.csv``."""
    columns = ("dist_img", "ref_img", "dmos", "var")
    return [_label(row) for row in csv_rows(existing(folder, "dmos.csv"), columns)]


def _label(row: Row) -> Label:
    std = math.sqrt(row.number("var", least=0.0))
    groups = {"reference": row.text("ref_img")}
    return Label(row.text("dist_img"), row.number("dmos"), std, groups=groups)


ENTRY = Entry(
    name="kadid10k",
    title="KADID-10k",
    source="https://database.mmsp-kn.de/kadid-10k-database.html",
    folders=("kadid10k",),
    images=(("images",),),
    read=read,
    count=10125,
    low=1.0,
    high=4.93,
    groups=("reference",),
    lists={
        "qalign": {"train": "train_kadid.json", "test": "test_kadid.json"},
        "deqa": {"train": "train_kadid_8k.json", "test": "test_kadid_2k.json"},
    },
    digest="6d3d6a5c",
)
