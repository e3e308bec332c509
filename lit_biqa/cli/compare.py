"""Lay tested runs side by side: the settings in which they differ, and their scores.

    lit_biqa compare runs/quickstart runs/quickstart_no_pca
    lit_biqa compare runs/* --csv compared.csv

Scores come from each run's ``test/results.csv``, settings from its ``config.yaml``. A run that was
tested with several weights has a line for each.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lit_biqa.evaluation.hyperparameters import Setting, read_hyperparameters
from lit_biqa.evaluation.report import UNKNOWN, Result, labels, read_results, write_csv
from lit_biqa.evaluation.tables import rendered
from lit_biqa.types import InputError

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Run:
    """A tested run, or one of the weights that it was tested with.

    Attributes:
        folder: as it was named.
        weights: short digest of these weights.
        settings: flat.
        results: by data set, split and condition.
    """

    folder: Path
    weights: str
    settings: dict[str, Setting]
    results: dict[Key, Result]


def read(folder: Path) -> list[Run]:
    """Read a run's settings and scores, once for each of its weights.

    Raises:
        InputError: if the folder is no run, or the run was not tested.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: name the folders of runs.")
    settings = read_hyperparameters(folder)
    results = read_results(folder / "test" / "results.csv")
    found: dict[str, dict[Key, Result]] = {}
    for r in results:
        found.setdefault(r.weights, {})[r.dataset, r.split, r.condition] = r
    return [Run(folder, weights, settings, each) for weights, each in found.items()]


def differing(runs: Sequence[Run]) -> list[str]:
    """Names of the settings that some runs have and others have not, or have otherwise."""
    names = sorted({name for run in runs for name in run.settings})
    return [n for n in names if len({repr(run.settings.get(n, "absent")) for run in runs}) > 1]


def shortened(names: Sequence[str]) -> list[str]:
    """Each dotted name from its end, as short as keeps it apart from the others."""
    short = []
    for name in names:
        parts = name.split(".")
        others = [f".{other}" for other in names if other != name]
        ends = [".".join(parts[i:]) for i in reversed(range(len(parts)))]
        own = [end for end in ends if not any(other.endswith(f".{end}") for other in others)]
        short.append(own[0] if own else name)
    return short


def columns(runs: Sequence[Run]) -> dict[Key, str]:
    """The results to show and what to call them.

    A data set whose split differs from run to run has a column for each split. Means are shown
    only where all runs were tested on the same sets.
    """
    found = {key: result for run in runs for key, result in run.results.items()}
    same = all(run.results.keys() == runs[0].results.keys() for run in runs)
    shown = {key: result for key, result in found.items() if same or not result.is_mean}
    # Whose weights a score is of stands in its line, not in the name of its column.
    unnamed = [replace(result, weights=UNKNOWN) for result in shown.values()]
    return dict(zip(shown, labels(unnamed), strict=True))


def heads(runs: Sequence[Run]) -> list[list[str]]:
    """What each line is called: its run, and its weights where a run has several."""
    folders = [run.folder for run in runs]
    if len(set(folders)) == len(folders):
        return [["run"], *([str(run.folder)] for run in runs)]
    return [["run", "weights"], *([str(run.folder), run.weights] for run in runs)]


def table(runs: Sequence[Run]) -> str:
    """A line for each run: differing settings, then PLCC and SRCC of every set."""
    from rich.table import Table

    names, keys = differing(runs), columns(runs)
    head, *called = heads(runs)
    grid = Table(*head, *shortened(names))
    for label in keys.values():
        grid.add_column(f"{label}\nPLCC / SRCC", justify="right")
    for run, own in zip(runs, called, strict=True):
        settings = [_shown(run.settings.get(name, "")) for name in names]
        scores = [_score(run.results.get(key)) for key in keys]
        grid.add_row(*own, *settings, *scores)
    return rendered(grid)


def _shown(setting: Setting) -> str:
    return "none" if setting is None else str(setting)


def _score(result: Result | None) -> str:
    if result is None:
        return ""
    return f"{result.correlations.plcc:.4f} / {result.correlations.srcc:.4f}"


def save(path: Path, runs: Sequence[Run]) -> None:
    """Write the same as a CSV file, settings by their full names.

    Raises:
        InputError: if it cannot be written.
    """
    names, keys = differing(runs), columns(runs)
    scores = [(key, metric) for key in keys for metric in ("plcc", "srcc")]
    head, *called = heads(runs)
    lines: list[list[object]] = []
    for run, own in zip(runs, called, strict=True):
        line: list[object] = [*own, *(_shown(run.settings.get(name, "")) for name in names)]
        for key, metric in scores:
            result = run.results.get(key)
            line.append("" if result is None else getattr(result.correlations, metric))
        lines.append(line)
    header = [*head, *names, *(f"{keys[key]}/{metric}" for key, metric in scores)]
    write_csv(path, header, lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the exit status is 2 if a folder is no tested run."""
    parser = argparse.ArgumentParser(
        prog="lit_biqa compare", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a tested run")
    parser.add_argument("--csv", type=Path, metavar="OUT", help="also write the table as CSV")
    given = parser.parse_args(arguments)
    try:
        runs = [run for folder in given.runs for run in read(folder)]
        print(table(runs))
        if given.csv is not None:
            save(given.csv, runs)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
