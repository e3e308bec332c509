"""TID2013 (Ponomarenko et al. 2015): 25 references, 24 distortions at 5 levels, 3,000 images.

Each line of the label file has the score first. Its names differ from those on disk in case
(``I01_11_1.BMP``, ``i01_11_1.bmp``) and are looked up in any case. ``mos_std.txt`` is ignored: at
0.13 on a scale of 9 it is, by its size, the deviation of the mean, not of single ratings.
"""

from __future__ import annotations

from pathlib import Path

from lit_biqa.data.readers.entry import Entry, Label
from lit_biqa.data.readers.tables import existing, separated_rows


def read(folder: Path) -> list[Label]:
    """Labels from ``mos_with_names.txt``; the reference of ``i01_02_3.bmp`` is ``I01``."""
    rows = separated_rows(existing(folder, "mos_with_names.txt"), ("score", "name"))
    return [
        Label(name, row.number("score"), groups={"reference": name[:3].upper()})
        for row in rows
        for name in [row.text("name")]
    ]


ENTRY = Entry(
    name="tid2013",
    title="TID2013",
    source="https://www.ponomarenko.info/tid2013.htm",
    folders=("tid2013",),
    images=(("distorted_images",),),
    read=read,
    count=3000,
    low=0.24242,
    high=7.21429,
    groups=("reference",),
    lists={"deqa": {"test": "test_tid2013_3k.json"}},
    digest="494a3eb8",
)
