"""Values that a paper prints, beside those of tested runs: ``lit_biqa compare --expected FILE``.

A file such as ``configs/reproduce/pure_textual_reasoning/expected.csv`` has one line per printed
value. The run of a row lies in a folder with the name of the row's recipe.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_biqa.data.protocols import PREFIX, expanded
from lit_biqa.data.readers.tables import csv_rows
from lit_biqa.evaluation.comparison import Run
from lit_biqa.evaluation.grids import Grid
from lit_biqa.evaluation.report import MEAN, METRICS
from lit_biqa.evaluation.store import read_costs, read_overlaps
from lit_biqa.types import InputError

COLUMNS = (
    *("table", "row", "recipe", "dataset", "split", "condition", "metric"),
    *("printed", "protocol"),
)
ABSENT = "not measured"
_ALL = "all"  # line of a study over all its sets, if they are several
_KEEP = "keep one of them in a folder of its own with the recipe's name"
AND = " and "
"""Joins the conditions of a mean, and the data sets of a study."""


@dataclass(frozen=True)
class Printed:
    """One printed value: a line of an ``expected.csv``, columns `COLUMNS`.

    Attributes:
        table: number of the table, or the section.
        row: the row's name in the paper.
        recipe: name of the recipe that makes the row, without its folder; empty for a row that no
            recipe makes.
        dataset: catalogue name, or ``mean``; of a study, all sets that it is over, as in ``spaq
            and koniq10k``; empty for all images that were tested.
        split: name of the split; for a ``mean`` without sets above it, the protocol it is over.
        condition: condition of results; for a ``mean`` over sets of several conditions, all of
            them, as in ``masked-text and text``.
        metric: column of ``results.csv`` (``plcc``), of ``costs.csv`` (``hours_per_epoch``), or of
            a study's summary in percent (``unstable_percent``, ``accuracy_percent``); ``rouge1``,
            the column ``f`` of ``rouge.csv``.
        printed: the value in the digits of the paper.
        protocol: how the paper came to it.
    """

    table: str
    row: str
    recipe: str
    dataset: str
    split: str
    condition: str
    metric: str
    printed: str
    protocol: str


@dataclass(frozen=True)
class Comparison:
    """A printed value and what was measured, ``nan`` where nothing was."""

    value: Printed
    measured: float

    @property
    def difference(self) -> float:
        """Measured minus printed."""
        return self.measured - float(self.value.printed)

    @property
    def agrees(self) -> bool:
        """True if the measured value has the printed digits; a half may be rounded either way."""
        digits = len(self.value.printed.partition(".")[2])
        return abs(self.difference) <= 0.5 * math.pow(10, -digits) + 1e-9


def read_printed(path: Path) -> list[Printed]:
    """Lines of an ``expected.csv``.

    Raises:
        InputError: if the file is absent, lacks a column, or prints what is no number.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file of printed values")
    values = []
    for row in csv_rows(path, COLUMNS):
        value = Printed(**{name: row.cells[name].strip() for name in COLUMNS})
        row.number("printed")
        values.append(value)
    return values


def compared(values: Sequence[Printed], runs: Sequence[Run]) -> list[Comparison]:
    """Each printed value with the one that the run of its recipe has measured.

    Raises:
        InputError: if a run measured one test with several weights.
    """
    by_recipe: dict[str, list[Run]] = {}
    for run in runs:
        by_recipe.setdefault(run.folder.resolve().name, []).append(run)
    found: list[Comparison] = []
    for value in values:
        mine = by_recipe.get(value.recipe, [])
        measured = _mean(value, found) if value.dataset == MEAN else _measured(value, mine)
        if math.isnan(measured) and value.split.startswith(PREFIX):
            measured = _protocol_mean(value, mine)
        found.append(Comparison(value, measured))
    return found


def _mean(value: Printed, above: Sequence[Comparison]) -> float:
    """Mean over the sets above it in its row, back to the mean before; ``nan`` if one lacks."""
    same = ("table", "row", "metric")
    conditions = (value.condition, *value.condition.split(AND))
    sets: list[float] = []
    for line in reversed(above):
        of_row = all(getattr(line.value, name) == getattr(value, name) for name in same)
        if of_row and line.value.condition in conditions:
            if line.value.dataset == MEAN:
                break
            sets.append(line.measured)
    return sum(sets) / len(sets) if sets else math.nan


def _protocol_mean(value: Printed, runs: Sequence[Run]) -> float:
    """Mean over the sets of a protocol, for a table that prints nothing else."""
    measured = []
    for spec in expanded([value.split], "test"):
        dataset, _, split = spec.partition("/")
        measured.append(_result(runs, (dataset, split, value.condition), value.metric))
    return sum(measured) / len(measured)


def _measured(value: Printed, runs: Sequence[Run]) -> float:
    if value.metric in METRICS:
        return _result(runs, (value.dataset, value.split, value.condition), value.metric)
    if value.metric == "rouge1":
        found = [(f, run.folder) for run in runs for f in _overlap(run, value.condition)]
        return _only(found, f"was tested with several weights: {_KEEP}")
    if value.metric.endswith("_percent"):
        folders = dict.fromkeys(run.folder for run in runs)
        found = [(share, folder) for folder in folders for share in _studied(folder, value)]
        study = f"several studies of {value.dataset} in analysis/"
        return _only(found, f"holds {study}, with {value.metric}: leave one of them there")
    return next((cost for run in runs for cost in _costs(run.folder, value)), math.nan)


def _result(runs: Sequence[Run], test: tuple[str, str, str], metric: str) -> float:
    """A figure of ``results.csv``; the digest of the split may be any.

    Raises:
        InputError: if several weights were tested.
    """
    found = [
        (float(getattr(result.correlations, metric)), run.folder)
        for run in runs
        for key, result in run.results.items()
        if (key[0], key[1].partition("@")[0], key[2]) == test
    ]
    several = f"was tested on {'/'.join(test[:2])} with several weights or images"
    return _only(found, f"{several}: {_KEEP}")


def _only(found: Sequence[tuple[float, Path]], several: str) -> float:
    """The only figure that the folders hold; ``nan`` if they hold none.

    Raises:
        InputError: if they hold more, with what there are several of.
    """
    if len(found) > 1:
        raise InputError(f"{found[0][1]} {several}")
    return found[0][0] if found else math.nan


def _overlap(run: Run, condition: str) -> Iterator[float]:
    """Mean of ROUGE-1's F over all images that have references, in ``rouge.csv``."""
    file = run.folder / "test" / "rouge.csv"
    lines = [
        (int(line["n"]), float(line["f"]))
        for line in (read_overlaps(file) if file.is_file() else [])
        if (line["condition"], line["weights"]) == (condition, run.weights)
    ]
    if lines:
        yield sum(n * f for n, f in lines) / sum(n for n, _ in lines)


def _costs(folder: Path, value: Printed) -> Iterator[float]:
    """Hours per epoch, or seconds per image of a condition in tests of the value's set alone."""
    fitted = value.metric == "hours_per_epoch"
    file = folder / "costs.csv" if fitted else folder / "test" / "costs.csv"
    for line in read_costs(file) if file.is_file() else []:
        sets = {spec.partition("/")[0] for spec in line.get("datasets", "").split(", ")}
        about = fitted or not value.dataset or sets == {value.dataset}
        if line["what"] == value.condition and about and line.get(value.metric):
            yield float(line[value.metric])


def _studied(folder: Path, value: Printed) -> Iterator[float]:
    """Percentages that `lit_biqa analyse` has written, in studies of the value's sets alone."""
    study = {"unstable_percent": "instability", "accuracy_percent": "accuracy"}[value.metric]
    column = "unstable_mean" if study == "instability" else "mean"
    sets = set(value.dataset.split(AND))
    wanted = _ALL if len(sets) > 1 else value.dataset
    for file in sorted(folder.glob(f"analysis/*/{study}_summary.csv")):
        with file.open(newline="", encoding="utf-8") as opened:
            # Accuracy has lines for five levels and for three.
            lines = [line for line in csv.DictReader(opened) if line.get("levels") != "3"]
        if {line["dataset"] for line in lines} - {_ALL} == sets:
            yield from (100 * float(line[column]) for line in lines if line["dataset"] == wanted)


def printed_grid(comparisons: Sequence[Comparison], whole: bool = False) -> Grid:
    """Printed beside measured values.

    Args:
        comparisons: of one file.
        whole: a line for each value; else a row of which nothing was measured has one line.
    """
    grid = Grid(
        ("table", "row", "data set", "condition", "metric"),
        ("printed", "measured", "difference", "agrees"),
    )
    measured = {(c.value.table, c.value.row) for c in comparisons if not math.isnan(c.measured)}
    told: set[tuple[str, str]] = set()
    for line in comparisons:
        value, row = line.value, (line.value.table, line.value.row)
        if whole or row in measured:
            names = (*row, value.dataset, value.condition, value.metric)
            grid.rows.append((*names, value.printed, *_cells(line)))
        elif row not in told:
            told.add(row)
            by = value.recipe or "no recipe makes it"
            grid.rows.append((*row, f"({by})", "", "", "", ABSENT, "", ""))
    return grid


def _cells(line: Comparison) -> tuple[str, str, str]:
    if math.isnan(line.measured):
        return ABSENT, "", ""
    return f"{line.measured:.4f}", f"{line.difference:+.4f}", "yes" if line.agrees else "no"


def summary(comparisons: Sequence[Comparison]) -> str:
    """How many values were measured, and how many of them have the printed digits."""
    measured = [line for line in comparisons if not math.isnan(line.measured)]
    agreeing = sum(line.agrees for line in measured)
    return (
        f"{len(measured)} of {len(comparisons)} printed values were measured, "
        f"{agreeing} of them to the printed digits"
    )
