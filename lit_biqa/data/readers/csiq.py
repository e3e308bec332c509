"""CSIQ (Larson and Chandler 2010): 30 references, six distortions, 866 images.

DMOS on 0..1, lower for better images: turned round. The workbook names no file: names are made
from scene, distortion and level, and differ in case between folder and file and between copies,
so they are looked up whatever their case. Excel holds the scene ``1600`` as a number.
"""

from __future__ import annotations

from pathlib import Path

from lit_biqa.data.readers.entry import Entry, Label
from lit_biqa.data.readers.tables import Row, existing
from lit_biqa.data.readers.workbooks import sheet_rows
from lit_biqa.types import InputError

# The workbook's word for a distortion, without spaces -> folder, and word in the file name.
DISTORTIONS = {
    "noise": ("awgn", "AWGN"),
    "awgn": ("awgn", "AWGN"),
    "blur": ("blur", "BLUR"),
    "contrast": ("contrast", "contrast"),
    "fnoise": ("fnoise", "fnoise"),
    "jpeg": ("jpeg", "JPEG"),
    "jpeg2000": ("jpeg2000", "jpeg2000"),
}


def read(folder: Path) -> list[Label]:
    """Labels from the sheet ``all_by_image`` of ``csiq.DMOS.xlsx`` or the older ``csiq.beta.xlsx``.

    ``dmos_std`` counts as the deviation of single ratings: 0.08 on average on a scale of 1.
    """
    path = existing(folder, "csiq.DMOS.xlsx", "csiq.beta.xlsx")
    columns = ("image", "dst_type", "dst_lev", "dmos_std", "dmos")
    return [_label(row) for row in sheet_rows(path, columns, "all_by_image")]


def _label(row: Row) -> Label:
    kind = row.text("dst_type").replace(" ", "").lower()
    if kind not in DISTORTIONS:
        raise InputError(
            f"{row.place}: dst_type {row.text('dst_type')!r} is none of {', '.join(DISTORTIONS)}."
        )
    place, word = DISTORTIONS[kind]
    scene = row.text("image")
    name = f"{scene}.{word}.{row.text('dst_lev')}.png"
    std = row.number("dmos_std", least=0.0)
    groups = {"reference": scene}
    return Label(name, row.number("dmos"), std, file=f"{place}/{name}", groups=groups)


ENTRY = Entry(
    name="csiq",
    title="CSIQ",
    source="https://s2.smu.edu/~eclarson/csiq.html",
    folders=("CSIQ",),
    images=(("dst_imgs",), (".",)),
    read=read,
    count=866,
    low=0.0,
    high=1.0,
    lower_is_better=True,
    groups=("reference",),
    lists={"deqa": {"test": "test_csiq_866.json"}},
    digest="66c50031",
)
