"""What makes a file that is not there yet: a fit, and where its name tells, the recipe of it."""

from __future__ import annotations

import shlex
from pathlib import Path

RECIPES = "configs"  # where they lie, seen from where commands are given


def how_made(path: Path) -> str:
    """What to run first to get something of a run folder: ``runs/NAME/...`` is of ``NAME.yaml``.

    Args:
        path: of a file or folder right in the folder of a run.
    """
    run = path.parent
    named = [file for file in sorted(Path(RECIPES).glob("**/*.yaml")) if file.stem == run.name]
    for recipe in named:
        if "optimizer:" in recipe.read_text(encoding="utf-8"):  # others train nothing
            command = ["lit_biqa", "fit", "--config", recipe.as_posix(), "--run", str(run)]
            return f"a fit writes it; run {shlex.join(command)} first"
    return "a fit writes it; run the recipe that makes it first, or name another path"
