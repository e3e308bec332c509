"""A CSV of one's own: ``image,mos[,std][,group][,reference][,text]``, paths relative to the file.

Rows of one image with different texts become one sample with several texts. Or, for images of
which the distortion is known: ``image,degradation,severity[,mos]``, a MOS where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from lit_biqa.data.readers.entry import Entry, Label
from lit_biqa.data.readers.tables import Row, csv_rows, first_line
from lit_biqa.io.files import as_utf8, refuse_special
from lit_biqa.types import InputError

Scale = tuple[float, float]
ON_MOS: Scale = (1.0, 5.0)
GROUPS = ("group", "reference")
"""Columns that are kinds of groups; a group may be a camera, a scene or a generator."""


def entry(path: Path, scale: Scale = ON_MOS) -> Entry:
    """A catalogue entry for the CSV at ``path``; its data set is called by the file's stem.

    Args:
        path: of the CSV.
        scale: worst and best score of its ratings; ``(100, 0)`` for a DMOS of 100 at worst.

    Raises:
        InputError: if the file is absent, or no file.
    """
    refuse_special(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist. Give the path of a CSV with columns image,mos.")
    columns = [name.strip() for name in first_line(path).split(",")]
    return Entry(
        name=as_utf8(path.stem),
        title=str(path),
        source=f"the folders that {path} names",
        folders=(".",),
        images=((".",),),
        read=partial(read, path, scale=scale),
        count=None,
        low=min(scale),
        high=max(scale),
        lower_is_better=scale[0] > scale[1],
        groups=tuple(kind for kind in GROUPS if kind in columns),
    )


def read(path: Path, _folder: Path, scale: Scale = ON_MOS) -> list[Label]:
    """Labels from the CSV, on its own scale.

    Raises:
        InputError: if it lacks a column, a MOS is NaN or off the scale, or rows of one image
            contradict or repeat each other; names the line.
    """
    if "degradation" in [name.strip() for name in first_line(path).split(",")]:
        rows = csv_rows(path, ("image", "degradation", "severity"))
        return [_degraded(row, scale) for row in rows]
    return merged(csv_rows(path, ("image", "mos")), "image", scale)


def _degraded(row: Row, scale: Scale) -> Label:
    degradation = row.text("degradation").lower(), row.text("severity").lower()
    if str(row.cells.get("mos") or "").strip():
        return replace(_label(row, row.text("image"), scale), degradation=degradation)
    return Label(row.text("image"), math.nan, groups=_groups(row), degradation=degradation)


def merged(rows: Iterable[Row], key: str, scale: Scale = ON_MOS) -> list[Label]:
    """One label per image, in the order in which they first occur, with the texts of all rows.

    Raises:
        InputError: if a row of an image has another score or source than its first, or no text
            that is new.
    """
    first: dict[str, tuple[Row, Label]] = {}
    texts: dict[str, dict[str, None]] = {}
    for row in rows:
        name, text = row.text(key), str(row.cells.get("text") or "").strip()
        if name in first:
            _compare(name, row, first[name][0], text in ("", *texts[name]))
        else:
            first[name], texts[name] = (row, _label(row, name, scale)), {}
        texts[name].update({text: None} if text else {})
    return [replace(label, texts=tuple(texts[name])) for name, (_, label) in first.items()]


def _compare(name: str, row: Row, first: Row, repeated: bool) -> None:
    where = first.place.rpartition(", ")[2]
    if (row.number("mos"), _std(row)) != (first.number("mos"), _std(first)):
        raise InputError(
            f"{row.place}: {name} has another mos or std than in {where}. Give an image one score."
        )
    if _groups(row) != _groups(first):
        raise InputError(
            f"{row.place}: {name} has another group or reference than in {where}. "
            "Give an image one of each."
        )
    if repeated:
        raise InputError(
            f"{row.place}: {name} stands in {where} too, and this row adds no new text. "
            "Keep one of them."
        )


def _groups(row: Row) -> dict[str, str]:
    cells = {kind: str(row.cells.get(kind) or "").strip() for kind in GROUPS}
    return {kind: cell for kind, cell in cells.items() if cell}


def _std(row: Row) -> float | None:
    """The deviation, or None where there is none: unlike NaN, None equals itself."""
    empty = str(row.cells.get("std") or "").strip().lower() in ("", "nan")
    return None if empty else row.number("std", least=0.0)


def _label(row: Row, name: str, scale: Scale) -> Label:
    mos = row.number("mos")
    if not min(scale) <= mos <= max(scale):
        raise InputError(
            f"{row.place}: mos is {mos:g}, not on the scale from {scale[0]:g} (worst) to "
            f"{scale[1]:g} (best). Name the scale of the ratings as data.sets.scale, such as "
            "[0, 100], or [100, 0] where a higher number is worse."
        )
    std = _std(row)
    return Label(name, mos, math.nan if std is None else std, groups=_groups(row))
