"""Printed tables: the results of a test, and names with values."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lit_biqa.evaluation.conditions import IMAGE
from lit_biqa.evaluation.report import Result

if TYPE_CHECKING:
    from rich.table import Table


def table(results: Sequence[Result], title: str = "Test") -> str:
    """Results as a Markdown table, which can be pasted unchanged.

    Intervals are beside PLCC and SRCC if there are any, means come last. A note below a mean says
    that it counts the smallest set as much as the largest; other notes say why a correlation is
    ``nan``.
    """
    from rich import box
    from rich.table import Table

    conditions = any(result.condition != IMAGE for result in results)
    intervals = any(math.isfinite(result.correlations.plcc_low) for result in results)
    beside = " [95%]" * intervals
    grid = Table(title=title, title_justify="left", box=box.MARKDOWN)
    for name in ("data set", "split", *["condition"] * conditions):
        grid.add_column(name)
    for name in ("n", "failures", f"PLCC{beside}", f"SRCC{beside}", "KRCC", "RMSE", "PLCC fitted"):
        grid.add_column(name, justify="right", no_wrap=True)
    for r in results:
        f = r.correlations
        names = (r.dataset, r.split, *[r.condition] * conditions)
        grid.add_row(
            *(name.replace("|", r"\|") for name in names),
            *(str(f.n), str(f.failures)),
            _between(f.plcc, f.plcc_low, f.plcc_high),
            _between(f.srcc, f.srcc_low, f.srcc_high),
            *(f"{f.krcc:.4f}", f"{f.rmse:.4f}", f"{f.plcc_fitted:.4f}"),
        )
    return "\n".join([rendered(grid), *_note(results), *_undefined(results)])


def _between(value: float, low: float, high: float) -> str:
    """A correlation with its interval: ``0.8324 [0.792, 0.869]``."""
    interval = f" [{low:.3f}, {high:.3f}]" if math.isfinite(low) else ""
    return f"{value:.4f}{interval}"


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


def rendered(grid: Table) -> str:
    """A rich table as plain text, as wide as it needs to be."""
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=1000, markup=False, emoji=False).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
