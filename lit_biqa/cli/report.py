"""Draw the reports of runs again: `report.html` in each run folder, from the files there.

    lit_biqa report runs/quickstart
    lit_biqa report runs/*

`lit_biqa test`, `predict` and a fit with a test draw it by themselves. Images that are not on the
disk any more have no picture in it.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from lit_biqa.evaluation.compared import Comparison
from lit_biqa.html_report import REPORT
from lit_biqa.types import InputError


def draw(run: Path) -> bool:
    """Draw the report of a run; whatever goes wrong is a warning of one line.

    Returns:
        True if the report was drawn.
    """

    def write() -> None:
        from lit_biqa.html_report.run_report import write_report

        write_report(run)

    return _drawn(write, run / REPORT)


def draw_comparison(comparison: Comparison, file: Path | None) -> bool:
    """Draw the report of a comparison and name it on stderr; what goes wrong is a warning there.

    Args:
        comparison: the runs compared.
        file: file to write; ``None`` for `report.html` in the folder that holds the runs, or in
            the working directory if they lie in several.

    Returns:
        True if it was written.
    """
    parents = {run.folder.resolve().parent for run in comparison.runs}
    path = file or (parents.pop() if len(parents) == 1 else Path.cwd()) / REPORT

    def write() -> None:
        from lit_biqa.html_report.comparison_report import write_comparison

        write_comparison(path, comparison)

    if written := _drawn(write, path):
        print(f"written: {path}", file=sys.stderr)
    return written


def _drawn(write: Callable[[], None], path: Path) -> bool:
    try:
        write()
    except Exception as error:  # results are complete without a report: no error may end a test
        if os.environ.get("LIT_BIQA_TRACEBACK") == "1":
            traceback.print_exc()
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        print(f"warning: {path} was not drawn: {' '.join(reason.split())}", file=sys.stderr)
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw reports; the exit status is 2 if one was not drawn."""
    parser = argparse.ArgumentParser(
        prog="lit_biqa report", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a tested run")
    runs: list[Path] = parser.parse_args(arguments).runs
    # The report of a comparison lies beside its runs, so that RUNS/* names it too.
    runs = [run for run in runs if run.name != REPORT] or runs
    drawn = [run for run in runs if draw(run)]
    for run in drawn:
        print(run / REPORT)
    return 0 if drawn == runs else 2
