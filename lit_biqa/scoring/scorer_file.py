"""Location of scorer files: a named file, a run folder, or the newest run."""

from __future__ import annotations

from pathlib import Path

from lit_biqa.io.files import refuse_special
from lit_biqa.runs.recipes import how_made
from lit_biqa.types import InputError

SCORER = "scorer.safetensors"
"""Name of the file in a run folder."""


def scorer_file(path: Path) -> Path:
    """File of a scorer: the path itself, or `SCORER` in a run folder.

    Raises:
        InputError: if there is none; names the command that makes one.
    """
    if path == Path():
        raise InputError("the scorer's name is empty: name a file or the folder of a run.")
    if path.is_dir():
        if not (path / SCORER).is_file():
            raise InputError(
                f"{path} is a folder without {SCORER}: fits of RALI write one. Name another run, "
                f"or use `lit_biqa predict --run {path}` for a method that has none."
            )
        return path / SCORER
    refuse_special(path)
    if not path.is_file():
        raise InputError(f"{path}: no such scorer of RALI; {how_made(path)}")
    return path


def newest_scorer(runs: Path) -> Path:
    """Newest scorer of all runs in a folder.

    Raises:
        InputError: if no run has one.
    """
    files = [file for file in runs.glob(f"*/{SCORER}") if file.is_file()]
    if not files:
        raise InputError(
            f"no {SCORER} in {runs}/*/: train a scorer with `lit_biqa fit "
            f"--config quickstart`, or name one with --scorer FILE or RUN."
        )
    return max(files, key=lambda file: (file.stat().st_mtime, file))
