"""Rows of Excel sheets; a workbook is measured before it is unpacked."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lit_biqa.data.readers.tables import Row, check_file, refuse_doubles
from lit_biqa.limits import WORKBOOK_BYTES, WORKBOOK_CELLS
from lit_biqa.types import InputError

HEADER_WITHIN = 10
"""Rows of a sheet that are searched for the header."""


def sheet_rows(path: Path, columns: Sequence[str], sheet: str | None = None) -> Iterator[Row]:
    """Rows of an Excel sheet below its header, the row that holds ``columns``.

    Args:
        path: an ``.xlsx`` file.
        columns: names that the header row must hold, in any columns.
        sheet: name of the sheet; None for the first.

    Raises:
        InputError: if the file is no workbook, broken or beyond the limits, or has no such sheet or
            header, or one of ``columns`` twice.
    """
    header: dict[str, int] = {}
    for number, values in enumerate(_sheet_values(path, sheet), start=1):
        if not header:
            names = ["" if value is None else str(value).strip() for value in values]
            if set(columns) <= set(names):
                refuse_doubles(f"{path}, row {number}", [n for n in names if n in columns])
                header = {name: i for i, name in enumerate(names) if name}
            elif number == HEADER_WITHIN:
                break
        elif any(value is not None for value in values):
            cells = {name: values[i] if i < len(values) else None for name, i in header.items()}
            yield Row(f"{path}, row {number}", cells)
    if not header:
        raise InputError(
            f"{path}: no header with the columns {', '.join(columns)} in the first "
            f"{HEADER_WITHIN} rows. Take the workbook from its authors again."
        )


def _sheet_values(path: Path, sheet: str | None) -> Iterator[tuple[Any, ...]]:
    """Values of each row up to its last real cell, with the cells counted."""
    check_file(path, WORKBOOK_BYTES)
    count = 0
    try:
        for values in _unpacked(path, sheet):
            count += max(1, len(values))
            if count > WORKBOOK_CELLS:
                raise InputError(
                    f"{path}: a sheet has more than {WORKBOOK_CELLS:,} cells, the limit. "
                    "Take the workbook from its authors again."
                )
            yield values
    except InputError:
        raise
    except Exception as error:  # openpyxl raises zip, XML, key and value errors
        raise InputError(
            f"{path} cannot be read as an .xlsx workbook ({_brief(error)}). "
            "Take it from its authors again."
        ) from error


def _unpacked(path: Path, sheet: str | None) -> Iterator[tuple[Any, ...]]:
    import openpyxl

    _check_size(path)
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        if sheet is not None and sheet not in book.sheetnames:
            raise InputError(f"{path} has no sheet {sheet!r}; it has {', '.join(book.sheetnames)}.")
        page = book[sheet] if sheet else book.worksheets[0]
        # The size that a sheet announces may omit rows or invent millions.
        page.reset_dimensions()
        yield from page.iter_rows(values_only=True)
    finally:
        book.close()


def _check_size(path: Path) -> None:
    """Check the announced sizes of the parts; Python reads no more of a part than announced."""
    with zipfile.ZipFile(path) as parts:
        size = sum(part.file_size for part in parts.infolist())
    if size > WORKBOOK_BYTES:
        raise InputError(
            f"{path} unpacks to {size:,} bytes, more than the {WORKBOOK_BYTES:,} of any workbook "
            "of labels. Take it from its authors again."
        )


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
