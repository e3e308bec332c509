"""Tables of a comparison: scores of runs, gaps between image and text, differences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lit_biqa.evaluation.comparison import (
    COMPARED,
    Change,
    Difference,
    Run,
    Test,
    differences,
    gaps,
    names_of,
    shared_tests,
)
from lit_biqa.evaluation.conditions import Condition
from lit_biqa.evaluation.grids import Grid
from lit_biqa.evaluation.report import UNKNOWN, labels


@dataclass(frozen=True)
class Line:
    """One figure of one run.

    Attributes:
        test: label of the test.
        run: name of the run.
        metric: ``plcc`` or ``srcc``.
        n: number of images.
        change: the figure; its interval and probability are ``nan`` where they are unknown.
    """

    test: str
    run: str
    metric: str
    n: int
    change: Change


def labelled(runs: Sequence[Run]) -> dict[Test, str]:
    """Label of each test: its data set, with split and condition if needed to be unique."""
    tests = shared_tests(runs)
    results = {key: result for run in runs for key, result in run.results.items()}
    # The weights of a score are named beside the run, not in the label of the test.
    unnamed = [replace(results[test], weights=UNKNOWN) for test in tests]
    return dict(zip(tests, labels(unnamed), strict=True))


def is_gap(test: Test) -> bool:
    """True for the gap between the conditions of one data set."""
    return Condition.parse(test[2]).is_gap


def score_lines(runs: Sequence[Run]) -> Iterator[Line]:
    """PLCC and SRCC of each test and run, with the intervals that the test has written."""
    for test, label in labelled(runs).items():
        for name, run in zip(names_of(runs), runs, strict=True):
            if is_gap(test) or (result := run.results.get(test)) is None:
                continue
            figures = result.correlations
            for metric in COMPARED:
                low, high, *clustered = (
                    getattr(figures, f"{metric}_{end}")
                    for end in ("low", "high", "cluster_low", "cluster_high")
                )
                change = Change(getattr(figures, metric), low, high, math.nan, *clustered)
                yield Line(label, name, metric, figures.n, change)


def gap_lines(runs: Sequence[Run], resamples: int) -> Iterator[Line]:
    """Gaps between image and text of each run, with intervals where it has predictions."""
    tests = {test: label for test, label in labelled(runs).items() if is_gap(test)}
    paired = [gaps(run, resamples) if tests and resamples else {} for run in runs]
    for test, label in tests.items():
        for name, run, changes in zip(names_of(runs), runs, paired, strict=True):
            if (result := run.results.get(test)) is None:
                continue
            for metric in COMPARED:
                value = getattr(result.correlations, metric)
                change, n = Change(value, *[math.nan] * 3), result.correlations.n
                if known := changes.get(test):
                    change, n = getattr(known, metric), known.n
                yield Line(label, name, metric, n, change)


def difference_lines(
    runs: Sequence[Run], compared: Sequence[Mapping[Test, Difference]]
) -> Iterator[Line]:
    """Differences of PLCC and SRCC from the first run.

    Args:
        runs: the baseline, then the others.
        compared: differences of each of the others.
    """
    for test, label in labelled(runs).items():
        for name, changes in zip(names_of(runs)[1:], compared, strict=True):
            if known := changes.get(test):
                for metric in COMPARED:
                    yield Line(label, name, metric, known.n, getattr(known, metric))


def score_grid(runs: Sequence[Run]) -> Grid:
    """One row per test and run; failures have a column if there are any."""
    tests = {test: label for test, label in labelled(runs).items() if not is_gap(test)}
    shown = [
        run.results[test].correlations for run in runs for test in tests if test in run.results
    ]
    failures = any(figures.failures for figures in shown)
    grid = Grid(("test", "run"), ("n", *["failures"] * failures, "PLCC", "SRCC"))
    for test, label in tests.items():
        for name, run in zip(names_of(runs), runs, strict=True):
            if test in run.results:
                f = run.results[test].correlations
                counts = (str(f.n), *[str(f.failures)] * failures)
                grid.rows.append((label, name, *counts, f"{f.plcc:.4f}", f"{f.srcc:.4f}"))
    return grid


def compact_grid(lines: Sequence[Line], what: str, separator: str = " ") -> Grid:
    """Rows for a terminal, each figure with its interval and probability in one cell.

    Args:
        lines: gaps or differences.
        what: header of the figure.
        separator: between interval and probability; a line break makes the table narrower.
    """
    grid = Grid(("test", "run"), ("images", f"{what} [95%]"))
    for line in lines:
        figure = f"{line.metric.upper()} {in_words(line.change, separator)}"
        grid.rows.append((line.test, line.run, str(line.n), figure))
    return grid


def full_grid(lines: Sequence[Line], what: str, clusters: bool) -> Grid:
    """Rows for other programs and for papers: a column for each number.

    Args:
        lines: scores, gaps or differences.
        what: header of the figure.
        clusters: true for columns of the intervals by cluster bootstrap, after the others.
    """
    more = ["cluster low", "cluster high"] * clusters
    grid = Grid(("test", "run", "metric"), ("n", what, "low", "high", "p", *more))
    for line in lines:
        change = line.change
        ends = (f"{end:+.4f}" for end in (change.value, change.low, change.high))
        cells = (line.test, line.run, line.metric, str(line.n), *ends, f"{change.p:.4f}")
        clustered = [f"{change.cluster_low:+.4f}", f"{change.cluster_high:+.4f}"] * clusters
        grid.rows.append(tuple("" if "nan" in cell else cell for cell in (*cells, *clustered)))
    return grid


def has_clusters(lines: Sequence[Line]) -> bool:
    """True if any figure has an interval by cluster bootstrap."""
    return any(not math.isnan(line.change.cluster_low) for line in lines)


def in_words(change: Change, separator: str = " ") -> str:
    """A difference with its intervals and probability: ``+0.0100 [-0.004, +0.024] p 0.190``.

    The interval by cluster bootstrap, if there is one, follows that over images.
    """
    if math.isnan(change.value):
        return "undefined: scores or MOS are constant"
    if math.isnan(change.low):
        return f"{change.value:+.4f}"
    figure = f"{change.value:+.4f} [{change.low:+.3f}, {change.high:+.3f}]"
    if not math.isnan(change.cluster_low):
        ends = f"[{change.cluster_low:+.3f}, {change.cluster_high:+.3f}]"
        figure += f"{separator}clusters {ends}"
    return f"{figure}{separator}p {change.p:.3f}"


@dataclass(frozen=True)
class Comparison:
    """Everything that a comparison of runs computes.

    Attributes:
        runs: the baseline, then the others.
        resamples: of the bootstrap and of the tests; 0 for no intervals and no differences.
        changes: differences of each of the others from the baseline.
        scores: PLCC and SRCC of each test and run.
        gaps: gaps between image and text.
        differences: differences from the baseline, as lines.
    """

    runs: Sequence[Run]
    resamples: int
    changes: list[dict[Test, Difference]]
    scores: list[Line]
    gaps: list[Line]
    differences: list[Line]


def compare(runs: Sequence[Run], resamples: int) -> Comparison:
    """Compare runs; with resamples it takes seconds for ten thousand images."""
    changes = [differences(runs[0], run, resamples) if resamples else {} for run in runs[1:]]
    return Comparison(
        runs,
        resamples,
        changes,
        list(score_lines(runs)),
        list(gap_lines(runs, resamples)),
        list(difference_lines(runs, changes)),
    )
