"""Tiny archives and label files in their authors' form, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import openpyxl
from scipy.io import savemat

from lit_biqa.data.catalog import load_split
from lit_biqa.types import Sample


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")
    return path.parent


def workbook(path: Path, rows: Sequence[Sequence[object]], sheet: str = "Sheet1") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    book = openpyxl.Workbook()
    page = book.create_sheet(sheet, 0)
    for row in rows:
        page.append(list(row))
    book.save(path)
    return path.parent


def release(folder: Path, names: Sequence[str], mos: Sequence[float], std: Sequence[float]) -> None:
    (folder / "Data").mkdir(parents=True, exist_ok=True)
    cell = np.empty((len(names), 1), dtype=object)
    cell[:, 0] = names
    savemat(folder / "Data" / "AllImages_release.mat", {"AllImages_release": cell})
    savemat(folder / "Data" / "AllMOS_release.mat", {"AllMOS_release": [mos]})
    savemat(folder / "Data" / "AllStdDev_release.mat", {"AllStdDev_release": [std]})


def live2(folder: Path, dmos: np.ndarray, copies: np.ndarray) -> None:
    cell = np.empty((1, 982), dtype=object)
    cell[0, :] = "bikes.bmp"
    savemat(folder / "dmos_realigned.mat", {"dmos_new": dmos[None], "orgs": copies[None]})
    savemat(folder / "refnames_all.mat", {"refnames_all": cell})


#: Tiny archives hold a few of their authors' labels.
load_partial = partial(load_split, wanted="partial")


def file_of(sample: Sample) -> Path:
    """Path of the image of each sample that has one."""
    assert sample.path is not None
    return sample.path
