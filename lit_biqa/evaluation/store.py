"""The store of a run's figures: who measures adds lines or replaces the same ones, no others.

A line belongs to a data set, a split, a condition and the weights that gave it. `results.csv`,
`predictions.csv` and `costs.csv` are read, merged and written whole under a lock, so that tests
that end at the same moment lose nothing of each other.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from lit_biqa.evaluation.conditions import parts
from lit_biqa.evaluation.metrics import Correlations
from lit_biqa.evaluation.report import (
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
"""A line of a table by column, as it stands in the file."""

WEIGHTS, PATH = "weights", "path"
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
_LONGEST_CELL = 2**31 - 1  # a model may say more than the 131,072 letters that csv allows


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from the store in a folder until this one has written to it.

    Raises:
        InputError: if the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder / ".store.lock", os.O_RDWR | os.O_CREAT | _NO_LINKS, 0o666)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror}. Choose another --run folder."
        ) from error
    try:
        if fcntl is not None:
            with suppress(OSError):  # some network disks know no locks
                fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def merge_results(path: Path, fresh: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    """Bring the lines of a test into `results.csv`.

    Returns:
        What it held before and what it holds now.

    Raises:
        InputError: if what is there cannot be read, or it cannot be written.
    """
    before = read_results(path) if path.exists() else []
    after = merged(before, fresh)
    write_results(path, after)
    return before, after


def merged(before: Sequence[Result], fresh: Sequence[Result]) -> list[Result]:
    """Lines of a store after a test: its own in the place of the same ones, gaps and means anew.

    Lines of the same weights stand together, those that were tested first at the top.
    """
    new = [_as_written(line) for line in fresh if not line.is_derived]
    gone = {
        (line.dataset, line.split, condition, line.weights)
        for line in new
        for condition in (line.condition, *parts(line.condition))
    }
    kept = [line for line in before if not line.is_derived and identity(line) not in gone]
    order = dict.fromkeys(line.weights for line in (*before, *new))
    lines = [*kept, *new]
    return [
        line
        for weights in order
        for line in with_derived([line for line in lines if line.weights == weights])
    ]


def identity(line: Result) -> tuple[str, str, str, str]:
    """What tells a line of results from every other."""
    return line.dataset, line.split, line.condition, line.weights


def _as_written(line: Result) -> Result:
    # So that means are the same whether lines come from a test or from a file.
    n, failures, *values = astuple(line.correlations)
    rounded = Correlations(n, failures, *(float(number(value)) for value in values))
    return replace(line, correlations=rounded)


def cells_of(row: Prediction, weights: str, **more: str) -> dict[str, str]:
    """A row as the cells of `predictions.csv`: `ROW_COLUMNS`, whatever else it carries, weights.

    They are as the file will hold them, so that the same row is found there again.
    """
    names = (*ROW_COLUMNS, *(f.name for f in fields(row) if f.name not in ROW_COLUMNS))
    values = {name: getattr(row, name) for name in names}
    cells = {name: "" if value is None else number(value) for name, value in values.items()}
    return {name: as_utf8(cell) for name, cell in (cells | more | {WEIGHTS: weights}).items()}


def by_test(cells: Cells) -> Hashable:
    """Rows that one test measures together: a data set under one condition."""
    return tuple(cells[name] for name in ("dataset", "split", "condition", WEIGHTS))


def by_image(cells: Cells) -> Hashable:
    """The row of one image, wherever it stood among those that were predicted with it."""
    where = cells.get(PATH) or (cells["dataset"], cells["split"], cells["name"])
    return where, cells["condition"], cells[WEIGHTS]


@dataclass(frozen=True)
class Merge:
    """What new lines did to a table.

    Attributes:
        added: new lines that have no earlier one of the same key.
        replaced: earlier lines that new ones took the place of.
        kept: earlier lines that stay as they were.
    """

    added: int
    replaced: int
    kept: int


def merge_predictions(
    path: Path, fresh: Sequence[Cells], same: Callable[[Cells], Hashable]
) -> Merge:
    """Bring rows into `predictions.csv`, in the place of those that are the ``same``.

    Raises:
        InputError: if what is there cannot be read, or it cannot be written.
    """
    before = read_predictions(path) if path.exists() else []
    return _merge(path, (*ROW_COLUMNS, "index", WEIGHTS), before, fresh, same, _place)


def read_predictions(path: Path) -> list[dict[str, str]]:
    """Rows of `predictions.csv` as cells; one without weights has those of `UNKNOWN`.

    Raises:
        InputError: if it has other columns or is damaged.
    """
    return [{WEIGHTS: UNKNOWN} | row for row in _read(path, (*ROW_COLUMNS, "index"))]


def read_costs(path: Path) -> list[dict[str, str]]:
    """Lines of a `costs.csv` as cells.

    Raises:
        InputError: if it has other columns or is damaged.
    """
    return _read(path, ("what",))


def merge_costs(
    path: Path, columns: Sequence[str], fresh: Sequence[Cells], same: Callable[[Cells], Hashable]
) -> None:
    """Bring lines into a `costs.csv`, in the place of those that are the ``same``.

    Raises:
        InputError: if what is there cannot be read, or it cannot be written.
    """
    before = read_costs(path) if path.exists() else []
    _merge(path, columns, before, fresh, same, lambda line: ())


def _merge(
    path: Path,
    columns: Sequence[str],
    before: Sequence[Cells],
    fresh: Sequence[Cells],
    same: Callable[[Cells], Hashable],
    place: Callable[[Cells], tuple[str | int, ...]],
) -> Merge:
    old, new = {same(line) for line in before}, {same(line) for line in fresh}
    kept = [line for line in before if same(line) not in new]
    lines = [*kept, *fresh]
    order = {w: i for i, w in enumerate(dict.fromkeys(x.get(WEIGHTS) for x in (*before, *fresh)))}
    lines.sort(key=lambda line: (order[line.get(WEIGHTS)], *place(line)))
    names = dict.fromkeys([*columns, *(name for line in lines for name in line)])
    last = [name for name in (PATH, WEIGHTS) if name in names]
    header = [*(name for name in names if name not in last), *last]
    write_csv(path, header, [[line.get(name, "") for name in header] for line in lines])
    added = sum(same(line) not in old for line in fresh)
    return Merge(added, len(before) - len(kept), len(kept))


def _place(row: Cells) -> tuple[str | int, ...]:
    return row["dataset"], row["split"], row["condition"], int(row["index"])


def _read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    refuse_special(path)
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        with path.open(newline="", encoding="utf-8") as file:
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
            f"{path} cannot be added to: {error}. Move it elsewhere, then repeat the command."
        ) from error
    finally:
        csv.field_size_limit(limit)
    return [dict(zip(header, line, strict=True)) for line in lines]
