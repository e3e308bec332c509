"""Label files row by row: columns that must be there, numbers that are numbers, places named."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_biqa.types import InputError

HEADER_WITHIN = 10  # a workbook's header is looked for in its first rows


@dataclass(frozen=True)
class Row:
    """One row of a label file and where it stands.

    Attributes:
        place: ``<path>, line 3``, for messages.
        cells: values by column.
    """

    place: str
    cells: Mapping[str, Any]

    def text(self, column: str) -> str:
        """The cell as text; a whole number (``1600`` read as ``1600.0``) without its point.

        Raises:
            InputError: if the cell is empty.
        """
        value = self.cells.get(column)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None or not str(value).strip():
            raise InputError(f"{self.place}: {column} is empty. Fill it or drop the row.")
        return str(value).strip()

    def number(self, column: str, least: float = -math.inf) -> float:
        """The cell as a finite number, not below ``least``.

        Raises:
            InputError: if it is none, is NaN or infinite, or is below.
        """
        text = self.text(column)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < least:
            expected = "a finite number" + f" not below {least:g}" * math.isfinite(least)
            raise InputError(
                f"{self.place}: {column} is {text!r}, {expected} is expected. "
                "Mend the row or take the label file from its authors again."
            )
        return value


def existing(folder: Path, *names: str) -> Path:
    """The first of ``names`` in ``folder``, whatever its case.

    Raises:
        InputError: if there is none.
    """
    inside = {path.name.lower(): path for path in folder.iterdir()} if folder.is_dir() else {}
    for name in names:
        if name.lower() in inside:
            return inside[name.lower()]
    raise InputError(
        f"{folder} has no label file {' or '.join(names)}. Put it there as its authors publish it."
    )


def csv_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Rows of a CSV with a header; quoted commas, CRLF and a byte-order mark are fine.

    Raises:
        InputError: if the file is empty or not text, or lacks one of ``columns``.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval=None)
            _demand(path, columns, reader.fieldnames or [])
            for cells in reader:
                yield Row(f"{path}, line {reader.line_num}", cells)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV file in UTF-8 ({error}).") from error


def sheet_rows(path: Path, columns: Sequence[str], sheet: str | None = None) -> Iterator[Row]:
    """Rows of an Excel sheet below the row that holds ``columns``, wherever that row stands.

    Args:
        path: an ``.xlsx`` file.
        columns: names that the header row must hold, in any columns.
        sheet: its name; None means the first.

    Raises:
        InputError: if the file is no workbook, or has no such sheet or header.
    """
    header: dict[str, int] = {}
    for number, values in enumerate(_sheet_values(path, sheet), start=1):
        if not header:
            names = {str(value).strip(): i for i, value in enumerate(values) if value is not None}
            if set(columns) <= set(names):
                header = names
            elif number == HEADER_WITHIN:
                break
        elif any(value is not None for value in values):
            yield Row(f"{path}, row {number}", {name: values[i] for name, i in header.items()})
    if not header:
        raise InputError(
            f"{path}: no header with the columns {', '.join(columns)} in the first "
            f"{HEADER_WITHIN} rows. Take the workbook from its authors again."
        )


def _sheet_values(path: Path, sheet: str | None) -> Iterator[tuple[Any, ...]]:
    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # openpyxl lets zip, XML and key errors of a broken file through
        raise InputError(f"{path} cannot be read as an .xlsx workbook ({error}).") from error
    try:
        if sheet is not None and sheet not in book.sheetnames:
            raise InputError(f"{path} has no sheet {sheet!r}; it has {', '.join(book.sheetnames)}.")
        page = book[sheet] if sheet else book.worksheets[0]
        yield from page.iter_rows(values_only=True)
    finally:
        book.close()


def separated_rows(
    path: Path, columns: Sequence[str], separator: str | None = None
) -> Iterator[Row]:
    """Rows of a text file without header; blank lines are passed over.

    Args:
        path: the file.
        columns: what its columns hold, in their order.
        separator: between columns; None means blanks.

    Raises:
        InputError: if the file is not text, or a line has another number of columns.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text file in UTF-8 ({error}).") from error
    for number, line in enumerate(lines, start=1):
        cells = [cell.strip() for cell in line.split(separator)]
        if line.strip() and len(cells) != len(columns):
            raise InputError(
                f"{path}, line {number}: {line.strip()[:60]!r} is not of the form "
                f"{(separator or ' ').join(columns)}. Take the file from its authors again."
            )
        if line.strip():
            yield Row(f"{path}, line {number}", dict(zip(columns, cells, strict=True)))


def matlab_values(path: Path, variable: str) -> list[Any]:
    """A MATLAB variable as a flat list; a cell of strings gives strings.

    Raises:
        InputError: if the file is no MATLAB file or lacks the variable.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except Exception as error:  # scipy lets errors of many kinds out of a broken file
        raise InputError(f"{path} cannot be read as a MATLAB file ({error}).") from error
    if variable not in content:
        names = ", ".join(name for name in content if not name.startswith("__")) or "none"
        raise InputError(f"{path}: variable {variable!r} expected; it has {names}.")
    values = content[variable].ravel()
    # A cell holds one array around each value.
    return [value.ravel()[0] if values.dtype == object else value for value in values]


def _demand(path: Path, columns: Sequence[str], found: Sequence[str]) -> None:
    absent = [column for column in columns if column not in found]
    if absent:
        raise InputError(
            f"{path}: column {', '.join(absent)} missing; expected {', '.join(columns)}, "
            f"found {', '.join(found) or 'nothing'}."
        )
