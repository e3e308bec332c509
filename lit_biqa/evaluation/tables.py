"""Printed tables: the results of a test, and names with values."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lit_biqa.evaluation.conditions import IMAGE
from lit_biqa.evaluation.grids import Grid
from lit_biqa.evaluation.overlap import Overlaps
from lit_biqa.evaluation.report import Result, repeated

if TYPE_CHECKING:
    from rich.table import Table

# Limits of columns that are folded: where a table is too wide, and where columns are set side by
# side, so that one long text does not take the place of all others.
_NARROWEST, _WIDEST = 6, 36


def table(results: Sequence[Result], title: str = "Test") -> str:
    """Results as a Markdown table, which can be pasted unchanged, with `notes` below it."""
    from rich import box
    from rich.table import Table

    shown = results_grid(results)
    grid = Table(title=title, title_justify="left", box=box.MARKDOWN)
    for name in shown.names:
        grid.add_column(name)
    for name in shown.numbers:
        grid.add_column(name, justify="right", no_wrap=True)
    for row in shown.rows:
        grid.add_row(*(cell.replace("|", r"\|") for cell in row))
    return "\n".join([rendered(grid), *notes(results)])


def results_grid(results: Sequence[Result]) -> Grid:
    """Results as a table, a row each.

    Intervals are beside PLCC and SRCC if there are any. Where a data set has groups, the mean SRCC
    within them follows, and the intervals of a cluster bootstrap; means come last.
    """
    conditions = any(result.condition != IMAGE for result in results)
    intervals = any(math.isfinite(result.correlations.plcc_low) for result in results)
    within = any(math.isfinite(result.correlations.srcc_within) for result in results)
    clusters = any(math.isfinite(result.correlations.plcc_cluster_low) for result in results)
    beside = " [95%]" * intervals
    figures = ["n", "failures", f"PLCC{beside}", f"SRCC{beside}", "KRCC", "RMSE", "PLCC fitted"]
    resampled = ["PLCC clusters [95%]", "SRCC clusters [95%]"] * clusters
    grid = Grid(
        ("data set", "split", *["condition"] * conditions),
        (*figures, *["SRCC within"] * within, *resampled),
    )
    for r in results:
        f = r.correlations
        cells = [r.dataset, r.split, *[r.condition] * conditions, str(f.n), str(f.failures)]
        cells += [_between(f.plcc, f.plcc_low, f.plcc_high)]
        cells += [_between(f.srcc, f.srcc_low, f.srcc_high)]
        cells += [f"{f.krcc:.4f}", f"{f.rmse:.4f}", f"{f.plcc_fitted:.4f}"]
        cells += ["-" if math.isnan(f.srcc_within) else f"{f.srcc_within:.4f}"] * within
        cells += [_ends(f.plcc_cluster_low, f.plcc_cluster_high)] * clusters
        cells += [_ends(f.srcc_cluster_low, f.srcc_cluster_high)] * clusters
        grid.rows.append(tuple(cells))
    return grid


def notes(results: Sequence[Result]) -> list[str]:
    """Notes below a table of results.

    That below a mean says that it counts the smallest set as much as the largest; others say why
    a correlation is ``nan``.
    """
    return [*_note(results), *_undefined(results)]


def overlaps(lines: Sequence[Overlaps]) -> str:
    """ROUGE-1 of each data set and condition, and that of the control beside it."""
    from rich import box
    from rich.table import Table

    title = "ROUGE-1 with the texts of the data (shuffled: with those of another image)"
    grid = Table(title=title, title_justify="left", box=box.MARKDOWN)
    for name in ("data set", "split", "condition"):
        grid.add_column(name)
    for name in ("n", "precision", "recall", "F", "shuffled F"):
        grid.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        shares = (line.precision, line.recall, line.f, line.shuffled_f)
        names = (line.dataset, line.split, line.condition)
        cells = (*names, str(line.n), *(f"{share:.4f}" for share in shares))
        grid.add_row(*(cell.replace("|", r"\|") for cell in cells))
    return rendered(grid)


def _between(value: float, low: float, high: float) -> str:
    """A correlation with its interval: ``0.8324 [0.792, 0.869]``."""
    interval = f" {_ends(low, high)}" if math.isfinite(low) else ""
    return f"{value:.4f}{interval}"


def _ends(low: float, high: float) -> str:
    return f"[{low:.3f}, {high:.3f}]" if math.isfinite(low) else "-"


def _undefined(results: Sequence[Result]) -> list[str]:
    """Reasons why correlations are ``nan``, one line for each data set and condition."""
    lines = []
    for r in results:
        f, scored = r.correlations, r.correlations.n - r.correlations.failures
        if r.is_derived or not math.isnan(f.srcc):
            continue
        name = r.dataset if r.condition == IMAGE else f"{r.dataset} ({r.condition})"
        if scored < 3:
            why = f"{scored} of {f.n} images have a score, and a correlation needs 3"
            why += "; the column status of predictions.csv says why" if f.failures else ""
        else:
            why = f"all {scored} scores are equal, or all MOS are"
        lines.append(f"nan: {name}: {why}")
    return lines


def _note(results: Sequence[Result]) -> list[str]:
    several = {dataset: splits for (_, dataset), splits in repeated(results).items()}
    if several and len({result.dataset for result in results}) > 1:
        return [
            f"no mean: {dataset} was tested on {' and '.join(splits)}, "
            "which may hold the same images"
            for dataset, splits in several.items()
        ]
    if not any(result.is_mean for result in results):
        return []
    sizes = [(r.correlations.n, r.dataset) for r in results if not r.is_mean]
    (fewest, small), (most, large) = min(sizes), max(sizes)
    if fewest == most:
        return [f"mean: every data set counts the same; each has {most} images"]
    return [
        f"mean: every data set counts the same, {small} with {fewest} images as much as "
        f"{large} with {most}; n is the total number of images"
    ]


def pairs(title: str, lines: Mapping[str, str]) -> str:
    """A table of names and values to print."""
    from rich.table import Table

    grid = Table(title=title, title_justify="left", show_header=False)
    for name, value in lines.items():
        grid.add_row(name, value)
    return rendered(grid)


def rendered(grid: Table, width: int = 1000) -> str:
    """A rich table as plain text.

    Args:
        grid: table of text; columns with ``no_wrap`` keep their cells whole, others are folded.
        width: limit in characters; wider where the cells to keep whole need it.
    """
    from rich.console import Console

    text = io.StringIO()
    limit = max(width, needed_width(grid, _NARROWEST))
    Console(file=text, width=limit, markup=False, emoji=False, highlight=False).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def needed_width(grid: Table, folded: int | None = None) -> int:
    """Characters that a table needs in a line.

    Args:
        grid: table of text.
        folded: limit of a column that may be folded; ``None`` for as wide as its cells.
    """
    widths = [
        _widest([str(column.header), *map(str, column.cells)], None if column.no_wrap else folded)
        for column in grid.columns
    ]
    return sum(widths) + 3 * len(widths) + 1


def _held(column: Sequence[str]) -> int:
    """Characters that a column of `side_by_side` takes, header first: its name is not folded.

    The rest of a folded name would look like a row of its own.
    """
    return _widest(column, max(_WIDEST, _widest(column[:1])))


def _widest(cells: Sequence[str], limit: int | None = None) -> int:
    from rich.cells import cell_len

    widest = max(cell_len(line) for cell in cells for line in cell.split("\n"))
    return widest if limit is None else min(widest, limit)


def side_by_side(columns: Sequence[Sequence[str]], width: int) -> list[Table]:
    """Columns of text as Markdown tables that each fit the width.

    Args:
        columns: header, then cells; the first column is repeated in every table.
        width: limit in characters.
    """
    from rich import box
    from rich.table import Table

    first, *others = columns
    tables: list[list[Sequence[str]]] = []
    room = 0
    for column in others:
        room -= _held(column) + 3
        if room < 0 or not tables:
            tables.append([])
            room = width - 4 - _held(first) - _held(column) - 3
        tables[-1].append(column)
    grids = []
    for held in tables:
        grid = Table(box=box.MARKDOWN)
        for column in (first, *held):
            grid.add_column(column[0], overflow="fold", max_width=_held(column))
        for row in zip(*(cells[1:] for cells in (first, *held)), strict=True):
            grid.add_row(*row)
        grids.append(grid)
    return grids
