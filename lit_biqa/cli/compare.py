"""Compare tested runs: scores, and differences on the same images.

    lit_biqa compare runs/quickstart runs/quickstart_no_pca
    lit_biqa compare runs/* --settings --csv compared.csv

Scores come from each run's ``test/results.csv``, differences from ``test/predictions.csv`` on the
images that both runs scored, settings from ``config.yaml``. A run that was tested with several
weights has one line for each.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lit_biqa.evaluation.comparison import (
    Difference,
    Run,
    Test,
    differences,
    differing,
    names_of,
    read_runs,
    shared_tests,
)
from lit_biqa.evaluation.hyperparameters import Setting
from lit_biqa.evaluation.report import UNKNOWN, labels, write_csv
from lit_biqa.types import InputError

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 150  # of a table if the output is no terminal


def labelled(runs: Sequence[Run]) -> dict[Test, str]:
    """Label of each test: its data set, with split and condition if needed to be unique."""
    tests = shared_tests(runs)
    results = {key: result for run in runs for key, result in run.results.items()}
    # The weights of a score are named beside the run, not in the label of the test.
    unnamed = [replace(results[test], weights=UNKNOWN) for test in tests]
    return dict(zip(tests, labels(unnamed), strict=True))


def score_table(runs: Sequence[Run], resamples: int) -> Table:
    """One row per test and run; differences are relative to the first run."""
    from rich import box
    from rich.table import Table

    names, tests = names_of(runs), labelled(runs)
    compared = [differences(runs[0], run, resamples) for run in runs[1:]]
    grid = Table("test", "run", box=box.MARKDOWN)
    for column in ("n", "PLCC", "SRCC", *[f"SRCC - {names[0]} [95%]"] * (len(runs) > 1)):
        grid.add_column(column, justify="right")
    for test, label in tests.items():
        shown = label
        for name, run, difference in zip(names, runs, [{}, *compared], strict=True):
            result = run.results.get(test)
            if result is None:
                continue
            f = result.correlations
            change = _change(difference.get(test)) if len(runs) > 1 else ()
            grid.add_row(shown, name, str(f.n), f"{f.plcc:.4f}", f"{f.srcc:.4f}", *change)
            shown = ""
    return grid


def _change(difference: Difference | None) -> tuple[str]:
    if difference is None:
        return ("",)
    low, high = difference.srcc_interval
    text = f"{difference.srcc:+.4f} [{low:+.3f}, {high:+.3f}]"
    text += "" if difference.significant else " not significant"
    left_out = f", {difference.left_out} images left out" if difference.left_out else ""
    return (text + left_out,)


def settings_table(runs: Sequence[Run]) -> Table:
    """One row for each setting that differs between the runs."""
    from rich import box
    from rich.table import Table

    grid = Table("setting", *names_of(runs), box=box.MARKDOWN)
    for column in grid.columns:
        column.overflow = "fold"
    names = differing(runs)
    for name, short in zip(names, shortened(names), strict=True):
        grid.add_row(short, *(_shown(run.settings.get(name, "")) for run in runs))
    return grid


def shortened(names: Sequence[str]) -> list[str]:
    """Shortest unique end of each dotted name."""
    short = []
    for name in names:
        parts = name.split(".")
        others = [f".{other}" for other in names if other != name]
        ends = [".".join(parts[i:]) for i in reversed(range(len(parts)))]
        unique = [end for end in ends if not any(other.endswith(f".{end}") for other in others)]
        short.append(unique[0] if unique else name)
    return short


def _shown(setting: Setting) -> str:
    return "none" if setting is None else str(setting)


def save(path: Path, runs: Sequence[Run]) -> None:
    """Write one CSV line per run: differing settings by their full names, then scores.

    Raises:
        InputError: if the file cannot be written.
    """
    names, tests = differing(runs), labelled(runs)
    scores = [(test, metric) for test in tests for metric in ("plcc", "srcc")]
    lines: list[list[object]] = []
    for run in runs:
        line: list[object] = [str(run.folder), run.weights]
        line += [_shown(run.settings.get(name, "")) for name in names]
        for test, metric in scores:
            result = run.results.get(test)
            line.append("" if result is None else getattr(result.correlations, metric))
        lines.append(line)
    header = ["run", "weights", *names, *(f"{tests[test]}/{metric}" for test, metric in scores)]
    write_csv(path, header, lines)


def tested(folders: Sequence[Path]) -> list[Run]:
    """Runs in the folders that hold results; other folders are named on stderr.

    Raises:
        InputError: if no folder holds results.
    """
    runs = []
    for folder in folders:
        new = read_runs(folder)
        if not new:
            print(f"{folder}: no test/results.csv, left out", file=sys.stderr)
        runs += new
    if not runs:
        raise InputError("none of these folders holds results: run `lit_biqa test --run FOLDER`")
    return runs


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; the exit status is 2 if there is nothing to compare."""
    from rich.console import Console

    parser = argparse.ArgumentParser(
        prog="lit_biqa compare", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a tested run")
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="RUN",
        help="run to subtract; by default the first",
    )
    parser.add_argument("--settings", action="store_true", help="also print settings that differ")
    parser.add_argument("--csv", type=Path, metavar="OUT", help="also write settings and scores")
    parser.add_argument("--resamples", type=int, default=1000, help="resamples of the bootstrap")
    options = parser.parse_args(arguments)
    first = [options.baseline] if options.baseline else []
    try:
        runs = tested([*first, *(folder for folder in options.runs if folder not in first)])
        console = Console()
        console = console if console.is_terminal else Console(width=WIDTH)
        console.print(score_table(runs, options.resamples))
        if options.settings:
            console.print(settings_table(runs))
        if options.csv is not None:
            save(options.csv, runs)
            print(f"written: {options.csv}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
