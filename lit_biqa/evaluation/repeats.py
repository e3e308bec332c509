"""Runs that repeat one another with another seed: mean and standard deviation of their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lit_biqa.evaluation.compared import is_gap, labelled
from lit_biqa.evaluation.comparison import Run, names_of
from lit_biqa.evaluation.grids import Grid
from lit_biqa.evaluation.hyperparameters import Setting
from lit_biqa.types import InputError


def is_varied(setting: str, names: Sequence[str]) -> bool:
    """True for a setting that repeats may differ in.

    Example:
        >>> [is_varied(name, ["seed"]) for name in ("seed_everything", "head.seed", "val")]
        [True, True, False]

    Args:
        setting: dotted name.
        names: whole dotted names, or words of the last part of a name.
    """
    last = setting.rpartition(".")[2]
    return any(name == setting or name in (last, *last.split("_")) for name in names)


def repeated_runs(runs: Sequence[Run], names: Sequence[str]) -> list[list[Run]]:
    """Runs that have all settings in common but the varied ones, in the order of their first.

    Args:
        runs: tested runs.
        names: what may vary, as in `is_varied`.

    Raises:
        InputError: if two runs of a group do not differ at all, or are one run that was tested with
            several weights: the deviation over them would be none over seeds.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        common = {k: v for k, v in run.settings.items() if not is_varied(k, names)}
        groups.setdefault(_key(common), []).append(run)
    for group in groups.values():
        _check_different(group)
    return list(groups.values())


def _check_different(group: Sequence[Run]) -> None:
    known: dict[str, Run] = {}
    for run in group:
        before = known.setdefault(_key(run.settings), run)
        if before is run:
            continue
        if before.folder == run.folder:
            raise InputError(
                f"{run.folder} was tested with several weights, which are no repeats: keep the "
                "results of one of them in a folder of their own"
            )
        raise InputError(
            f"{before.folder} and {run.folder} have the same settings, so that their scores are no "
            "repeats: name one of them"
        )


def _key(settings: Mapping[str, Setting]) -> str:
    return repr(sorted(settings.items()))


def repeat_grid(groups: Sequence[Sequence[Run]]) -> Grid:
    """One row per test and group of runs: mean and standard deviation of PLCC and SRCC.

    The deviation is that of a sample, ``sqrt(sum (x - mean)^2 / (R - 1))`` of R runs; a single run
    has none. It holds what seeds change; `bootstrap_intervals` hold what other images would.

    Args:
        groups: runs that repeat one another, from `repeated_runs`.
    """
    every = [run for group in groups for run in group]
    tests = labelled(every)
    names = dict(zip(map(id, every), names_of(every), strict=True))
    grid = Grid(("test", "repeats"), ("runs", "n", "PLCC", "PLCC sd", "SRCC", "SRCC sd"))
    for test, label in tests.items():
        for group in groups:
            tested = [run for run in group if test in run.results]
            if is_gap(test) or not tested:
                continue
            figures = [run.results[test].correlations for run in tested]
            cells = [
                *_mean_and_deviation([figure.plcc for figure in figures]),
                *_mean_and_deviation([figure.srcc for figure in figures]),
            ]
            called = ", ".join(names[id(run)] for run in tested)
            grid.rows.append((label, called, str(len(tested)), str(figures[0].n), *cells))
    return grid


def _mean_and_deviation(values: Sequence[float]) -> tuple[str, str]:
    deviation = f"{np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}", deviation
