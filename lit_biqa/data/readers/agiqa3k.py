"""AGIQA-3k (Li et al. 2023): 2,982 generated images.

The quality score runs from 0 to 4.49, not from 1 to 5. Prompts in ``data.csv`` hold commas
within quotes. Ten generators drew the same 300 prompts, settings of one model (such as
``sd1.5_lowstep``) counted as generators; their mean scores lie far apart.
"""

from __future__ import annotations

from pathlib import Path

from lit_biqa.data.readers.entry import Entry, Label
from lit_biqa.data.readers.tables import Row, csv_rows, existing


def read(folder: Path) -> list[Label]:
    """Labels from ``data.csv``: ``mos_quality`` and ``std_quality``, not the alignment scores."""
    columns = ("name", "prompt", "mos_quality", "std_quality")
    return [_label(row) for row in csv_rows(existing(folder, "data.csv"), columns)]


def _label(row: Row) -> Label:
    """Label of one row; the generator of ``sd1.5_lowstep_173.jpg`` is ``sd1.5_lowstep``."""
    name, std = row.text("name"), row.number("std_quality", least=0.0)
    groups = {"generator": name.rpartition("_")[0], "prompt": row.text("prompt")}
    return Label(name, row.number("mos_quality"), std, groups=groups)


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
    groups=("generator", "prompt"),
    lists={"qalign": {"test": "agi.json"}, "deqa": {"test": "test_agiqa_3k.json"}},
    digest="71af72c8",
)
