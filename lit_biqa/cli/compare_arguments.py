"""Arguments of `lit_biqa compare`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from lit_biqa.evaluation.grids import Format
from lit_biqa.types import InputError, check_range


def parsed(arguments: Sequence[str] | None, description: str) -> argparse.Namespace:
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(prog="lit_biqa compare", description=description)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a tested run")
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="RUN",
        help="run that all others are compared with; by default the first",
    )
    parser.add_argument(
        "--format",
        choices=get_args(Format),
        default="markdown",
        help="of the printed tables; csv is one table with a line for each figure",
    )
    parser.add_argument(
        "--expected",
        type=Path,
        metavar="FILE",
        help="values that a paper prints, to show beside those of the runs instead of comparing "
        "runs: configs/reproduce/<paper>/expected.csv",
    )
    parser.add_argument(
        "--mean-over",
        action="append",
        default=[],
        metavar="NAME",
        help="mean and standard deviation over the runs that have all settings in common but those "
        "of this name, such as seed, instead of comparing runs; may be repeated",
    )
    parser.add_argument("--settings", action="store_true", help="also print settings that differ")
    parser.add_argument("--csv", type=Path, metavar="OUT", help="also write settings and scores")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="OUT",
        help="HTML file of the comparison, with the images; by default report.html in the folder "
        "that holds the runs",
    )
    parser.add_argument(
        "--resamples",
        type=int,
        default=1000,
        metavar="N",
        help="resamples of intervals and tests (default 1000); 0 omits the differences",
    )
    return parser.parse_args(arguments)


def check_options(options: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        InputError: names them.
    """
    check_range("--resamples", options.resamples, 0)
    if options.settings and options.format != "markdown":
        raise InputError("--settings prints Markdown alone: leave out --format, or use --csv")
    if options.report is not None and (options.mean_over or options.expected is not None):
        raise InputError("--report shows runs side by side: leave out --expected and --mean-over")
    if options.mean_over and (options.expected is not None or options.baseline is not None):
        raise InputError("--mean-over compares no runs: leave out --expected and --baseline")
