"""Rows of label files, with errors that name the row."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_biqa.io.files import refuse_special
from lit_biqa.limits import LABEL_BYTES, LABEL_LINE
from lit_biqa.types import InputError

TEXT = "text"
"""Only column whose cells may hold line breaks."""


@dataclass(frozen=True)
class Row:
    """One row of a label file, with its place.

    Attributes:
        place: ``<path>, line 3``, for messages.
        cells: values by column.
    """

    place: str
    cells: Mapping[str, Any]

    def text(self, column: str) -> str:
        """The cell as text; an integer that was read as a float (``1600.0``) loses its point.

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
            InputError: if it is no number, is NaN or infinite, or is below ``least``.
        """
        text = self.text(column)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < least:
            expected = "a finite number" + f" not below {least:g}" * math.isfinite(least)
            raise InputError(
                f"{self.place}: {column} is {text[:60]!r}, {expected} is expected. "
                "Correct the row or take the label file from its authors again."
            )
        return value


def existing(folder: Path, *names: str) -> Path:
    """First of ``names`` in ``folder``, in any case.

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


def check_file(path: Path, most: int = LABEL_BYTES, *, kind: str = "label file") -> None:
    """Check that a path is a file that may be read, before reading it.

    Raises:
        InputError: if it is absent, a folder or a pipe, or larger than ``most`` bytes; says what
            ``kind`` of file is expected.
    """
    refuse_special(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; check its name.")
    size = path.stat().st_size
    if size > most:
        raise InputError(
            f"{path} has {size:,} bytes, more than the {most:,} of any {kind}. "
            "Take it from its authors again."
        )


def read_text(path: Path) -> str:
    """Content of a text file.

    Raises:
        InputError: if it is absent, too large or no text in UTF-8.
    """
    check_file(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from error


def csv_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Rows of a CSV with a header; quoted commas, CRLF and a byte-order mark are accepted.

    Raises:
        InputError: if the file is empty or not text, lacks one of ``columns`` or has one twice, or
            if a row has another width than the header, a line break outside `TEXT`, or unbalanced
            quotes (a stray quote would pull all rows up to the next one into its cell).
    """
    reader = csv.reader(_lines(path, "no CSV file"), strict=True)
    begin = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        _demand(path, columns, header)
        begin = reader.line_num + 1
        for cells in reader:
            place = f"{path}, line {begin}"
            if any(cell.strip() for cell in cells):
                yield Row(place, _cells(place, header, cells))
            begin = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}, line {begin}: no CSV row ({error}). A quote is probably not closed, or not "
            "doubled within a cell."
        ) from error


def _cells(place: str, header: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise InputError(
            f"{place}: {len(cells)} cells under {len(header)} columns. The row may be cut off, or "
            "a cell with a comma needs quotes."
        )
    row = dict(zip(header, cells, strict=True))
    for name, cell in row.items():
        if name != TEXT and ("\n" in cell.strip() or "\r" in cell.strip()):
            raise InputError(
                f"{place}: {name} continues over {len(cell.splitlines())} lines. A quote that "
                "opens there is probably stray; remove it."
            )
    return row


def separated_rows(
    path: Path, columns: Sequence[str], separator: str | None = None
) -> Iterator[Row]:
    """Rows of a text file without header; blank lines are skipped.

    Args:
        path: the file.
        columns: names of its columns, in their order.
        separator: text between columns; None for white space.

    Raises:
        InputError: if the file is not text, or a line has another number of columns.
    """
    for number, line in enumerate(_lines(path, "no text file"), start=1):
        cells = [cell.strip() for cell in line.split(separator)]
        if line.strip() and len(cells) != len(columns):
            raise InputError(
                f"{path}, line {number}: {line.strip()[:60]!r} is not of the form "
                f"{(separator or ' ').join(columns)}. Take the file from its authors again."
            )
        if line.strip():
            yield Row(f"{path}, line {number}", dict(zip(columns, cells, strict=True)))


def first_line(path: Path) -> str:
    """First line of a text file; empty for an empty file.

    Raises:
        InputError: if the file is not text.
    """
    return next(_lines(path, "no CSV file"), "")


def _lines(path: Path, otherwise: str) -> Iterator[str]:
    """Lines with their line ends, none longer than `LABEL_LINE`."""
    check_file(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            number = 0
            while line := file.readline(LABEL_LINE + 1):
                number += 1
                if len(line) > LABEL_LINE:
                    raise InputError(
                        f"{path}, line {number}: longer than {LABEL_LINE:,} characters, the limit. "
                        "Take the file from its source again."
                    )
                yield line
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is {otherwise} in UTF-8 ({error}).") from error


def _demand(path: Path, columns: Sequence[str], header: Sequence[str]) -> None:
    absent = [column for column in columns if column not in header]
    if absent:
        raise InputError(
            f"{path}: column {', '.join(absent)} missing; expected {', '.join(columns)}, "
            f"found {', '.join(header)[:300] or 'nothing'}."
        )
    refuse_doubles(str(path), header)


def refuse_doubles(place: str, header: Sequence[str]) -> None:
    """Check that no column is in a header twice; columns without a name may repeat.

    Raises:
        InputError: names the repeated columns.
    """
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise InputError(
            f"{place}: two columns are called {', '.join(twice)[:300]}. Keep the right one."
        )
