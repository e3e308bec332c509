"""Variables of MATLAB files; compressed content is measured before it is unpacked."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from lit_biqa.data.readers.matlab_layout import TooLargeError, check_layout
from lit_biqa.data.readers.tables import Row, check_file
from lit_biqa.limits import MATLAB_BYTES
from lit_biqa.types import InputError


def numbers(path: Path, variable: str, least: float = -math.inf) -> list[float]:
    """Variable as a flat list of finite numbers, none below ``least``.

    Raises:
        InputError: as `values`, or names the first entry that is no such number.
    """
    return [row.number(variable, least) for row in _rows(path, variable)]


def texts(path: Path, variable: str) -> list[str]:
    """Cell array of strings as a flat list, none of them empty.

    Raises:
        InputError: as `values`, or names the first entry that is empty or a number.
    """
    rows = _rows(path, variable)
    for row in rows:
        if not isinstance(row.cells[variable], str | None):
            raise InputError(
                f"{row.place}: text is expected. Take the file from its authors again."
            )
    return [row.text(variable) for row in rows]


def _rows(path: Path, variable: str) -> list[Row]:
    return [
        Row(f"{path}, entry {number}", {variable: value})
        for number, value in enumerate(values(path, variable), start=1)
    ]


def values(path: Path, variable: str) -> list[Any]:
    """MATLAB variable as a flat list; an empty cell gives None.

    Raises:
        InputError: if the file is no MATLAB file, is broken, unpacks to more than `MATLAB_BYTES`,
            or lacks the variable.
    """
    check_file(path, MATLAB_BYTES)
    try:
        check_layout(path.read_bytes(), variable, MATLAB_BYTES)
        return _loaded(path, variable)
    except InputError:
        raise
    except TooLargeError as error:
        raise InputError(
            f"{path} unpacks to more than {MATLAB_BYTES:,} bytes, the limit for label files. "
            "Take it from its authors again."
        ) from error
    except Exception as error:  # scipy raises errors of many kinds on a broken file
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{path} cannot be read as a MATLAB file ({why}).") from error


def _loaded(path: Path, variable: str) -> list[Any]:
    from scipy.io import loadmat, whosmat

    shapes = {name: shape for name, shape, _ in whosmat(path)}
    if variable not in shapes:
        names = ", ".join(shapes)[:300] or "none"
        raise InputError(f"{path}: variable {variable!r} expected; it has {names}.")
    # For an invented shape, memory would be taken before any value is read.
    if math.prod(shapes[variable]) > MATLAB_BYTES // 8:
        raise InputError(
            f"{path}: {variable} of shape {shapes[variable]} is beyond any label file."
        )
    return [_value(entry) for entry in loadmat(path, variable_names=[variable])[variable].ravel()]


def _value(entry: Any) -> Any:
    """Number or string; for a cell, which holds an array around its value, that value."""
    if not hasattr(entry, "ravel"):
        return entry
    inside = entry.ravel()
    if inside.size > 1:
        raise ValueError(f"an entry holds {inside.size} values, one is expected")
    return inside[0] if inside.size else None
