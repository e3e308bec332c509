"""The synthetic data set, as `lit_biqa.data.synthetic` writes it: made from a seed, on [1, 5]."""

from __future__ import annotations

import json
from pathlib import Path

from lit_biqa.data.readers.csv_file import merged
from lit_biqa.data.readers.entry import Entry, Label
from lit_biqa.data.readers.tables import csv_rows, existing
from lit_biqa.io.digests import digest_of_file
from lit_biqa.io.seals import DAMAGED
from lit_biqa.types import InputError

LABELS = "labels_sha256"  # key in `settings.json` of the digest of the label file


def read(folder: Path) -> list[Label]:
    """Labels from ``labels.csv``, columns ``name,mos,std,reference,text``.

    Raises:
        InputError: if the file is absent, broken, or differs from the digest beside it.
    """
    columns = ("name", "mos", "std", "reference", "text")
    labels = existing(folder, "labels.csv")
    _check(labels)
    return merged(csv_rows(labels, columns), "name")


def _check(labels: Path) -> None:
    """Compare the labels with their digest; a set from before digests has none."""
    try:
        text = labels.with_name("settings.json").read_text(encoding="utf-8")
        expected = json.loads(text).get(LABELS)
    except (OSError, ValueError, AttributeError):
        return
    if expected is not None and expected != digest_of_file(labels):
        raise InputError(f"{labels}: {DAMAGED}. Remove its folder to have the set made again.")


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
    groups=("reference",),
    split="reference-0",
)
