"""LIVE release 2 (Sheikh et al. 2006): 29 references, five distortions, 779 images.

Realigned DMOS, lower for better images, partly below 0 and above 100: inverted. 203 of the 982
entries are undistorted copies (``orgs`` is 1) and do not count. Names repeat between folders, so
the folder is part of the name. ``dmos_std`` is ignored: at 2.5 on a range of 114 it is, by its
size, the deviation of the mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from lit_biqa.data.readers.entry import Entry, Label
from lit_biqa.data.readers.matlab import numbers, texts
from lit_biqa.data.readers.tables import existing
from lit_biqa.types import InputError

T = TypeVar("T")

# Entries of the label files, in their order.
COUNTS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}


def read(folder: Path) -> list[Label]:
    """Labels from ``dmos_realigned.mat`` and ``refnames_all.mat``.

    Raises:
        InputError: if a variable does not have 982 entries, or one is of another kind.
    """
    path = existing(folder, "dmos_realigned.mat")
    names = [f"{kind}/img{i}.bmp" for kind, n in COUNTS.items() for i in range(1, n + 1)]
    scores, copies = (_whole(path, v, numbers(path, v), len(names)) for v in ("dmos_new", "orgs"))
    path = existing(folder, "refnames_all.mat")
    references = _whole(path, "refnames_all", texts(path, "refnames_all"), len(names))
    return [
        Label(name, score, groups={"reference": reference})
        for name, score, copy, reference in zip(names, scores, copies, references, strict=True)
        if not copy
    ]


def _whole(path: Path, variable: str, values: list[T], count: int) -> list[T]:
    if len(values) != count:
        raise InputError(
            f"{path}: {variable} has {len(values)} entries, {count} are expected "
            f"({', '.join(f'{kind} {n}' for kind, n in COUNTS.items())}). "
            "Take the file from its authors again."
        )
    return values


ENTRY = Entry(
    name="liver2",
    title="LIVE release 2",
    source="https://live.ece.utexas.edu/research/quality/subjective.htm",
    folders=("databaserelease2", "LIVE-R2/databaserelease2", "LIVE-R2", "LIVE"),
    images=((".",),),
    read=read,
    count=779,
    low=-2.6400150164096132,
    high=111.77469352631448,
    lower_is_better=True,
    groups=("reference",),
    digest="a9d7935a",
)
