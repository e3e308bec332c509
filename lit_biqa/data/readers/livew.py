"""LIVE In the Wild Image Quality Challenge (Ghadiyaram and Bovik 2016): 1,162 photographs.

The first seven images (``t1.bmp`` .. ``t7.bmp``) trained the raters: they are in another folder and
do not belong to the data set. Papers that test on 1,169 images include them, and so does the split
``all1169``. File extensions are ``.JPG`` and ``.bmp``.
"""

from __future__ import annotations

import re
from pathlib import Path

from lit_biqa.data.readers.entry import Entry, Label
from lit_biqa.data.readers.matlab import numbers, texts
from lit_biqa.data.readers.tables import existing
from lit_biqa.types import InputError

RATED, TRAINING = "rated", "rater training"


def read(folder: Path) -> list[Label]:
    """Labels from the three files of ``Data/``; MOS and rating deviation on 0..100.

    Raises:
        InputError: if the files differ in length, or an entry is empty or of another kind.
    """
    variables = ("AllImages_release", "AllMOS_release", "AllStdDev_release")
    paths = [existing(folder / "Data", f"{name}.mat") for name in variables]
    names = texts(paths[0], variables[0])
    mos, std = numbers(paths[1], variables[1]), numbers(paths[2], variables[2], least=0.0)
    if len({len(names), len(mos), len(std)}) != 1:
        raise InputError(
            f"{folder / 'Data'}: the three .mat files differ in length "
            f"({len(names)}, {len(mos)}, {len(std)}). Unpack the archive again."
        )
    return [_label(*row) for row in zip(names, mos, std, strict=True)]


def _label(name: str, mos: float, std: float) -> Label:
    if re.fullmatch(r"t[1-7]\.bmp", name):
        return Label(name, mos, std, file=f"trainingImages/{name}", part=TRAINING)
    return Label(name, mos, std, part=RATED)


ENTRY = Entry(
    name="livew",
    title="LIVE In the Wild (ChallengeDB_release)",
    source="https://live.ece.utexas.edu/research/ChallengeDB/index.html",
    folders=("LIVE-W/ChallengeDB_release", "ChallengeDB_release", "LIVE-W", "livec"),
    images=(("Images",),),
    read=read,
    count=1162,
    low=3.42,
    high=92.4319526627219,
    split="official",
    parts={
        "official": dict.fromkeys(("train", "val", "test"), (RATED,)),
        "all1169": dict.fromkeys(("train", "val", "test"), (RATED, TRAINING)),
    },
    lists={"qalign": {"test": "livec.json"}, "deqa": {"test": "test_livew_1k.json"}},
    aside=TRAINING,
    digest="8660dd6e",
)
