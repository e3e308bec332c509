"""Scatter plot of predicted scores and MOS over one data set, and its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from lit_biqa.evaluation.bootstrap import Array
from lit_biqa.evaluation.conditions import IMAGE
from lit_biqa.evaluation.metrics import RESOLUTION, fit_logistic, logistic
from lit_biqa.evaluation.report import Result, failed, labels
from lit_biqa.evaluation.store import identity
from lit_biqa.io.files import replacing
from lit_biqa.types import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Figures: TypeAlias = "Mapping[tuple[str, str, str, str], Figure]"
"""Scatter plots by the identity of their lines in a store."""


def scatter(rows: Sequence[Prediction], result: Result) -> Figure:
    """MOS over predicted score, with the line of equality and the fitted logistic.

    Args:
        rows: rows of one data set under one condition; failures are left out.
        result: figures for the title.

    Returns:
        Figure without a window, to be saved or logged.
    """
    from matplotlib.figure import Figure

    good = [row for row in rows if not failed(row) and np.isfinite(row.mos)]
    x, y = (np.array([getattr(row, name) for row in good]) for name in ("score", "mos"))
    figure = Figure(figsize=(5.2, 5.6), dpi=150, layout="constrained")
    axes = figure.subplots()
    low, high = 1.0, 5.0
    if good:
        low, high = min(low, x.min(), y.min()), max(high, x.max(), y.max())
    _draw(axes, x, y, low, high)
    margin = 0.02 * (high - low)
    axes.set(
        xlim=(low - margin, high + margin),
        ylim=(low - margin, high + margin),
        xlabel="predicted score",
        ylabel="MOS",
        aspect="equal",
    )
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left", frameon=True, framealpha=0.9)
    # A name may hold two dollar signs; the text between is no formula.
    axes.set_title(_title(result), fontsize="medium", parse_math=False)
    return figure


def _draw(axes: Axes, x: Array, y: Array, low: float, high: float) -> None:
    # Many points hide each other: the more points, the smaller and fainter they are.
    crowd = min(1.0, (300 / max(len(x), 1)) ** 0.5)
    axes.scatter(x, y, s=4 + 14 * crowd, alpha=0.15 + 0.5 * crowd, linewidths=0, label="image")
    axes.plot((low, high), (low, high), color="0.4", linestyle="--", linewidth=1, label="equal")
    spread = len(x) and np.ptp(x) > RESOLUTION and np.ptp(y) > RESOLUTION
    beta = fit_logistic(x, y) if spread else None
    if beta is not None:
        grid = np.linspace(x.min(), x.max(), 200)
        axes.plot(grid, logistic(grid, *beta), color="C1", linewidth=2, label="fitted logistic")


def _title(result: Result) -> str:
    f = result.correlations
    name = f"{result.dataset} {result.split}"
    if result.condition != IMAGE:
        name += f" ({result.condition})"
    failures = f", {f.failures} failed" if f.failures else ""
    return f"{name}\nn = {f.n}{failures}, PLCC {f.plcc:.4f}, SRCC {f.srcc:.4f}"


def rename(folder: Path, before: Sequence[Result], after: Sequence[Result]) -> None:
    """Rename the plots of a store after a test was added.

    Names are as short as possible but unique, so that a test on a second split lengthens the name
    of the first.

    Raises:
        InputError: if a file cannot be renamed.
    """
    now = _files(folder, after)
    for line, old in _files(folder, before).items():
        if line in now and old != now[line] and old.is_file():
            with replacing(now[line]) as part:
                part.write_bytes(old.read_bytes())
            old.unlink()


def save(folder: Path, lines: Sequence[Result], figures: Figures) -> None:
    """Write plots under the names of their lines in a store.

    Raises:
        InputError: if a file cannot be written.
    """
    names = _files(folder, lines)
    for line, figure in figures.items():
        with replacing(names[line]) as part:
            figure.savefig(part, format="png")


def _files(folder: Path, lines: Sequence[Result]) -> dict[tuple[str, str, str, str], Path]:
    return {
        identity(line): folder / f"{label.replace('/', '-')}.png"
        for label, line in zip(labels(lines), lines, strict=True)
    }
