"""Store of a run's results: a test adds lines, or replaces lines of the same key, and no others.

The key of a line is data set, split, condition and weights. `results.csv`, `predictions.csv`,
`costs.csv` and `rouge.csv` are read, merged and written whole under a lock, so that tests that end
at the same moment lose none of each other's lines.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path

from lit_biqa.evaluation import overlap
from lit_biqa.evaluation.conditions import parts
from lit_biqa.evaluation.metrics import Correlations
from lit_biqa.evaluation.overlap import Overlaps
from lit_biqa.evaluation.report import (
    KEYS,
    ROW_COLUMNS,
    UNKNOWN,
    Result,
    number,
    read_results,
    with_derived,
    write_csv,
    write_results,
)
from lit_biqa.io.files import as_utf8, refuse_special
from lit_biqa.types import InputError, Prediction

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

Cells = Mapping[str, str]
"""Line of a table by column, as in the file."""

WEIGHTS, PATH = "weights", "path"
PROTOTYPES = "prototypes.csv"
"""File of a run with the training images nearest to the prototypes of RALI."""
IMAGE_COLUMNS = ("dataset", "split", "index", PATH)
"""Columns of `images.csv`, the files of tested images."""
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
_LONGEST_CELL = 2**31 - 1  # a text may exceed csv's default limit of 131,072 characters


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the store of a folder against other processes.

    Raises:
        InputError: if the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".store.lock", os.O_RDWR | os.O_CREAT | _NO_LINKS, 0o666)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror}. Choose another --run folder."
        ) from error
    try:
        if fcntl is not None:
            with suppress(OSError):  # some network file systems have no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def merge_results(path: Path, fresh: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    """Merge the lines of a test into `results.csv`.

    Returns:
        Lines of the file before and after.

    Raises:
        InputError: if the existing file cannot be read, or the new one not written.
    """
    before = read_results(path) if path.exists() else []
    after = merged(before, fresh)
    write_results(path, after)
    return before, after


def merged(before: Sequence[Result], fresh: Sequence[Result]) -> list[Result]:
    """Lines of a store after a test: same keys replaced, gaps and means computed again.

    Lines of the same weights are contiguous, the weights tested first at the top.
    """
    new = [_as_written(line) for line in fresh if not line.is_derived]
    gone = {
        (line.dataset, line.split, condition, line.weights)
        for line in new
        for condition in (line.condition, *parts(line.condition))
    }
    remaining = [line for line in before if not line.is_derived and identity(line) not in gone]
    order = dict.fromkeys(line.weights for line in (*before, *new))
    lines = [*remaining, *new]
    return [
        line
        for weights in order
        for line in with_derived([line for line in lines if line.weights == weights])
    ]


def identity(line: Result) -> tuple[str, str, str, str]:
    """Key of a line of results."""
    return line.dataset, line.split, line.condition, line.weights


def _as_written(line: Result) -> Result:
    # Rounded, so that means are the same for lines from a test and lines from a file.
    n, failures, *values = astuple(line.correlations)
    rounded = Correlations(n, failures, *(float(number(value)) for value in values))
    return replace(line, correlations=rounded)


def cells_of(row: Prediction, weights: str, **more: str) -> dict[str, str]:
    """Row as cells of `predictions.csv`: `ROW_COLUMNS`, its other fields, and the weights.

    Cells are equal to those in the file, so that the same row is found again.
    """
    names = (*ROW_COLUMNS, *(f.name for f in fields(row) if f.name not in ROW_COLUMNS))
    values = {name: getattr(row, name) for name in names}
    cells = {name: "" if value is None else number(value) for name, value in values.items()}
    return {name: as_utf8(cell) for name, cell in (cells | more | {WEIGHTS: weights}).items()}


def by_test(cells: Cells) -> Hashable:
    """Key of rows that one test replaces together: a data set under one condition."""
    return tuple(cells[name] for name in ("dataset", "split", "condition", WEIGHTS))


def by_image(cells: Cells) -> Hashable:
    """Key of the row of one image, independent of the other images."""
    where = cells.get(PATH) or (cells["dataset"], cells["split"], cells["name"])
    return where, cells["condition"], cells[WEIGHTS]


@dataclass(frozen=True)
class Merge:
    """Effect of new lines on a table.

    Attributes:
        added: number of new lines without an earlier line of the same key.
        replaced: number of earlier lines that new ones replace.
        kept: number of earlier lines that stay.
    """

    added: int
    replaced: int
    kept: int


def merge_predictions(
    path: Path, fresh: Sequence[Cells], same: Callable[[Cells], Hashable]
) -> Merge:
    """Merge rows into `predictions.csv`; a row replaces the rows of the ``same`` key.

    Raises:
        InputError: if the existing file cannot be read, or the new one not written.
    """
    before = read_predictions(path) if path.exists() else []
    return _merge(path, (*ROW_COLUMNS, "index", WEIGHTS), before, fresh, same, _place)


def read_predictions(path: Path) -> list[dict[str, str]]:
    """Rows of `predictions.csv` as cells; one without weights has those of `UNKNOWN`.

    Raises:
        InputError: if it has other columns or is damaged.
    """
    return [{WEIGHTS: UNKNOWN} | row for row in _read(path, (*ROW_COLUMNS, "index"))]


def read_ratings(path: Path) -> Iterator[tuple[dict[str, str], float, float]]:
    """Rows of `predictions.csv`, each with its score and its MOS.

    Both are ``nan`` where they are not known; so is the score of a failure.

    Raises:
        InputError: as `read_predictions`; if one is no number, with the line.
    """
    for line, row in enumerate(read_predictions(path), 2):
        try:
            score = float(row["score"] or "nan") if row["status"] == "ok" else math.nan
            mos = float(row["mos"] or "nan")
        except ValueError:
            raise InputError(f"{path}, line {line}: score or MOS is no number") from None
        yield row, score, mos


def read_images(path: Path) -> list[dict[str, str]]:
    """Lines of an `images.csv` as cells.

    Raises:
        InputError: if it has other columns or is damaged.
    """
    return _read(path, IMAGE_COLUMNS)


def read_table(
    path: Path, columns: Sequence[str], numbers: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Lines of any table as cells.

    Args:
        path: the file.
        columns: columns that it must have.
        numbers: those of them that must hold numbers.

    Raises:
        InputError: if it lacks one of the columns, is damaged, or has a cell that is no number;
            names the file, and the line of such a cell.
    """
    lines = _read(path, columns)
    for count, line in enumerate(lines, 2):
        for name in numbers:
            try:
                float(line[name])
            except ValueError:
                raise InputError(f"{path}, line {count}: {name} is no number") from None
    return lines


def cluster_of(line: Cells) -> str:
    """Cluster of a line of predictions; files of former versions have the group alone, or none."""
    return line.get("cluster", line.get("group", ""))


def merge_images(path: Path, fresh: Sequence[Cells]) -> None:
    """Merge lines into an `images.csv`; a line replaces that of the same image.

    Raises:
        InputError: if the existing file cannot be read, or the new one not written.
    """
    before = read_images(path) if path.exists() else []
    _merge(path, IMAGE_COLUMNS, before, fresh, _image, _image)


def _image(line: Cells) -> tuple[str | int, ...]:
    return line["dataset"], line["split"], int(line["index"])


def read_costs(path: Path) -> list[dict[str, str]]:
    """Lines of a `costs.csv` as cells.

    Raises:
        InputError: if it has other columns or is damaged.
    """
    return _read(path, ("what",))


def merge_costs(
    path: Path, columns: Sequence[str], fresh: Sequence[Cells], same: Callable[[Cells], Hashable]
) -> None:
    """Merge lines into a `costs.csv`; a line replaces the lines of the ``same`` key.

    Raises:
        InputError: if the existing file cannot be read, or the new one not written.
    """
    before = read_costs(path) if path.exists() else []
    _merge(path, columns, before, fresh, same, lambda line: ())


def read_overlaps(path: Path) -> list[dict[str, str]]:
    """Lines of a `rouge.csv` as cells.

    Raises:
        InputError: if it has other columns or is damaged.
    """
    return _read(path, overlap.COLUMNS)


def merge_overlaps(path: Path, fresh: Sequence[Overlaps], weights: str) -> None:
    """Merge lines of a test into `rouge.csv`; a line replaces the line of its key.

    Raises:
        InputError: if the existing file cannot be read, or the new one not written.
    """
    before = read_overlaps(path) if path.exists() else []
    lines = [
        {name: number(value) for name, value in asdict(line).items()} | {WEIGHTS: weights}
        for line in fresh
    ]
    _merge(path, overlap.COLUMNS, before, lines, by_test, lambda line: tuple(line[k] for k in KEYS))


def _merge(
    path: Path,
    columns: Sequence[str],
    before: Sequence[Cells],
    fresh: Sequence[Cells],
    same: Callable[[Cells], Hashable],
    place: Callable[[Cells], tuple[str | int, ...]],
) -> Merge:
    old, new = {same(line) for line in before}, {same(line) for line in fresh}
    remaining = [line for line in before if same(line) not in new]
    lines = [*remaining, *fresh]
    order = {w: i for i, w in enumerate(dict.fromkeys(x.get(WEIGHTS) for x in (*before, *fresh)))}
    lines.sort(key=lambda line: (order[line.get(WEIGHTS)], *place(line)))
    names = dict.fromkeys([*columns, *(name for line in lines for name in line)])
    last = [name for name in (PATH, WEIGHTS) if name in names]
    header = [*(name for name in names if name not in last), *last]
    write_csv(path, header, [[line.get(name, "") for name in header] for line in lines])
    added = sum(same(line) not in old for line in fresh)
    return Merge(added, len(before) - len(remaining), len(remaining))


def _place(row: Cells) -> tuple[str | int, ...]:
    return row["dataset"], row["split"], row["condition"], int(row["index"])


def _read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    refuse_special(path)
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        # Spreadsheets put a mark before the first column.
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *lines = list(csv.reader(file)) or [[]]
        if absent := [name for name in columns if name not in header]:
            raise ValueError(f"it has no column {absent[0]}")
        for place, line in enumerate(lines, 2):
            if len(line) != len(header):
                raise ValueError(f"row {place} has {len(line)} cells, not {len(header)}")
        if "index" in columns:
            where = header.index("index")
            [int(line[where]) for line in lines]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read: {error}. Move it elsewhere, then repeat the command."
        ) from error
    finally:
        csv.field_size_limit(limit)
    return [dict(zip(header, line, strict=True)) for line in lines]
