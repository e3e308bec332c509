"""Look-up of folders and files whose names differ from the published ones in case."""

from __future__ import annotations

import os
import re
from pathlib import Path


def plain(name: str) -> str:
    """Folder name without case and punctuation: ``KonIQ-10k`` and ``koniq10k`` are equal."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def descend(folder: Path, steps: str) -> Path | None:
    """Folder at ``steps`` (``a/b``) under ``folder``, or None; names compare by `plain`."""
    for step in steps.split("/"):
        if step == ".":
            continue
        exact = folder / step
        if not exact.is_dir():
            inside = sorted(folder.iterdir()) if folder.is_dir() else []
            exact = next((d for d in inside if plain(d.name) == plain(step) and d.is_dir()), exact)
        folder = exact
    return folder if folder.is_dir() else None


class ImageFinder:
    """Look-up of names in image folders, in any case; each folder is listed once.

    Args:
        folders: folders in the order of search; a name may carry sub-folders
            (``awgn/1600.AWGN.1.png``).
    """

    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders
        self._listed: dict[tuple[Path, str], dict[str, Path]] = {}

    def find(self, name: str) -> Path | None:
        """File called ``name``, or None; an exact name takes precedence over another case."""
        parent, _, file = name.rpartition("/")
        for folder in self.folders:
            files = self._files(folder, parent)
            path = files.get(file) or files.get(file.lower())
            if path:
                return path
        return None

    def _files(self, folder: Path, parent: str) -> dict[str, Path]:
        key = (folder, parent)
        if key not in self._listed:
            straight = folder / parent
            inside = straight if straight.is_dir() else descend(folder, parent)
            self._listed[key] = _listing(inside) if inside else {}
        return self._listed[key]


def _listing(folder: Path) -> dict[str, Path]:
    """Files of a folder by their exact and their lower-case names."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    lower = {name.lower(): folder / name for name in names}
    return lower | {name: folder / name for name in names}
