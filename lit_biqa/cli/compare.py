"""Compare tested runs: scores, and differences on the same images.

    lit_biqa compare runs/quickstart runs/quickstart_no_pca
    lit_biqa compare runs/* --settings --csv compared.csv

Scores come from each run's ``test/results.csv``, differences from ``test/predictions.csv`` on the
images that both runs scored, settings from ``config.yaml``. A run that was tested with several
weights has one line for each.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lit_biqa.evaluation.comparison import (
    Change,
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
from lit_biqa.evaluation.tables import needed_width, rendered, side_by_side
from lit_biqa.types import InputError, check_range

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


def _table(names: Sequence[str], numbers: Sequence[str]) -> Table:
    """An empty table; columns of names may be folded, those of numbers stay whole."""
    from rich import box
    from rich.table import Table

    grid = Table(box=box.MARKDOWN)
    for name in names:
        grid.add_column(name, overflow="fold")
    for name in numbers:
        grid.add_column(name, justify="right", no_wrap=True)
    return grid


def _escaped(name: str) -> str:
    return name.replace("|", r"\|")


def score_table(runs: Sequence[Run]) -> Table:
    """One row per test and run; failures have a column if there are any."""
    tests = labelled(runs)
    shown = [
        run.results[test].correlations for run in runs for test in tests if test in run.results
    ]
    failures = any(figures.failures for figures in shown)
    grid = _table(("test", "run"), ("n", *["failures"] * failures, "PLCC", "SRCC"))
    for test, label in tests.items():
        first = _escaped(label)
        for name, run in zip(names_of(runs), runs, strict=True):
            if test not in run.results:
                continue
            f = run.results[test].correlations
            counts = (str(f.n), *[str(f.failures)] * failures)
            grid.add_row(first, _escaped(name), *counts, f"{f.plcc:.4f}", f"{f.srcc:.4f}")
            first = ""
    return grid


def difference_table(
    runs: Sequence[Run], compared: Sequence[dict[Test, Difference]], separator: str
) -> Table:
    """Two rows for each test and run after the first: the differences of PLCC and of SRCC.

    Args:
        runs: the baseline, then the others.
        compared: differences of each of the others.
        separator: between interval and verdict; a line break makes the table narrower.
    """
    grid = _table(("test", "run"), ("images", "difference [95%]"))
    grid.columns[-1].justify = "left"
    for test, label in labelled(runs).items():
        first = _escaped(label)
        for name, changes in zip(names_of(runs)[1:], compared, strict=True):
            if (change := changes.get(test)) is None:
                continue
            plcc, srcc = (in_words(c, separator) for c in (change.plcc, change.srcc))
            grid.add_row(first, _escaped(name), str(change.n), f"PLCC {plcc}")
            grid.add_row("", "", "", f"SRCC {srcc}")
            first = ""
    return grid


def in_words(change: Change, separator: str = " ") -> str:
    """A difference with its interval and verdict: ``+0.0100 [-0.004, +0.024] not significant``."""
    if not change.low <= change.high:
        return "undefined: scores or MOS are constant"
    verdict = "" if change.significant else f"{separator}not significant"
    return f"{change.value:+.4f} [{change.low:+.3f}, {change.high:+.3f}]{verdict}"


def difference_text(runs: Sequence[Run], resamples: int, width: int) -> Iterator[str]:
    """The table of differences from the first run, and what it does not hold and why."""
    first, *others = names_of(runs)
    compared = [differences(runs[0], run, resamples) for run in runs[1:]]
    if any(compared):
        head = f"Difference from {first} on the same images, with its 95% interval:"
        yield textwrap.fill(f"{head} paired bootstrap, {resamples} resamples", width)
        grid = difference_table(runs, compared, " ")
        if needed_width(grid) > width:
            grid = difference_table(runs, compared, "\n")
        yield rendered(grid, width)
    tests = labelled(runs)
    notes: list[str] = []
    omitted = "images of {} left out, since {} and {} did not both score them: {}"
    for name, run, changes in zip(others, runs[1:], compared, strict=True):
        notes += [
            omitted.format(tests[test], first, name, change.left_out)
            for test, change in changes.items()
            if change.left_out
        ]
        if not changes:
            notes.append(f"no difference of {name} from {first}: {_lacking(runs[0], run)}")
    if notes:
        yield "\n".join(textwrap.fill(note, width) for note in notes)


def _lacking(baseline: Run, run: Run) -> str:
    for tested_run in (baseline, run):
        if not tested_run.scores:
            return f"no predictions in {tested_run.folder / 'test' / 'predictions.csv'}"
    return "fewer than 3 images that both scored under the same split and condition"


def settings_text(runs: Sequence[Run], width: int) -> Iterator[str]:
    """Settings in which the runs differ, runs as columns or as rows, whichever needs less room."""
    once = list({run.folder: run for run in runs}.values())
    names = differing(once)
    if not names:
        yield "The runs have the same settings."
        return
    lines = [["setting", *names_of(once)]]
    for name, short in zip(names, shortened(names), strict=True):
        lines.append([short, *(_shown(run.settings.get(name, "")) for run in once)])
    lines = [[_escaped(cell) for cell in line] for line in lines]
    columns = [list(column) for column in zip(*lines, strict=True)]
    lines[0][0] = "run"
    layouts = (side_by_side(columns, width), side_by_side(lines, width))
    for grid in min(layouts, key=len):
        yield rendered(grid, width)


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
    """Runs in the folders that hold results, each folder once; others are named on stderr.

    Raises:
        InputError: if no folder holds results.
    """
    once: dict[Path, Path] = {}
    for folder in folders:
        once.setdefault(folder.resolve(), folder)
    runs: list[Run] = []
    for folder in once.values():
        new = read_runs(folder)
        if not new:
            print(f"{folder}: no test/results.csv, left out", file=sys.stderr)
        runs += new
    if not runs:
        raise InputError("none of these folders holds results: run `lit_biqa test --run FOLDER`")
    return runs


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(
        prog="lit_biqa compare", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a tested run")
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="RUN",
        help="run that all others are compared with; by default the first",
    )
    parser.add_argument("--settings", action="store_true", help="also print settings that differ")
    parser.add_argument("--csv", type=Path, metavar="OUT", help="also write settings and scores")
    parser.add_argument(
        "--resamples",
        type=int,
        default=1000,
        metavar="N",
        help="bootstrap resamples for the intervals (default 1000); 0 omits the differences",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; the exit status is 2 if there is nothing to compare."""
    options = parsed(arguments)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    try:
        if options.csv is not None and options.csv.exists():
            raise InputError(
                f"{options.csv} exists and is not replaced: name a new file for --csv."
            )
        check_range("--resamples", options.resamples, 0)
        if options.baseline and not read_runs(options.baseline):
            raise InputError(f"{options.baseline}, the baseline, has no test/results.csv")
        runs = tested([*([options.baseline] if options.baseline else []), *options.runs])
        texts = [rendered(score_table(runs), width)]
        if options.resamples:
            texts += difference_text(runs, options.resamples, width)
        if options.settings:
            texts += settings_text(runs, width)
        print("\n\n".join(text.strip("\n") for text in texts))
        if options.csv is not None:
            save(options.csv, runs)
            print(f"\nwritten: {options.csv}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
