"""Advice for a missing file of a run: the fit that writes it, by recipe where the name tells."""

from __future__ import annotations

import shlex
from pathlib import Path

RECIPES = "configs"  # relative to the working directory


def how_made(path: Path) -> str:
    """Command that writes a missing file: ``runs/NAME/...`` comes from the recipe ``NAME.yaml``.

    Args:
        path: a file or folder directly inside a run folder.
    """
    run = path.parent
    named = [file for file in sorted(Path(RECIPES).glob("**/*.yaml")) if file.stem == run.name]
    for recipe in named:
        if "optimizer:" in recipe.read_text(encoding="utf-8"):  # other recipes train nothing
            command = ["lit_biqa", "fit", "--config", recipe.as_posix(), "--run", str(run)]
            return f"a fit writes it; run {shlex.join(command)} first"
    return "a fit writes it; run the recipe that makes it first, or name another path"
