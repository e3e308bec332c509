"""Photographs named on a command line: files, folders and patterns, and which of them are read."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_biqa.data.images import has_image_suffix, list_files
from lit_biqa.types import InputError


@dataclass(frozen=True)
class Photo:
    """A file to score.

    Attributes:
        path: as it was named, or found in a folder that was.
        reason: why it is not even opened; empty where it is.
    """

    path: Path
    reason: str = ""


def find_photos(items: Sequence[str]) -> list[Photo]:
    """All files of what was named, each once, in the order in which they were named.

    Folders are searched to any depth, and hidden files in them are passed over.

    Example:
        >>> find_photos(["a.jpg", "photos"])
        [Photo('a.jpg'), Photo('photos/b.heic'), Photo('photos/c.txt', '.txt files are not read')]

    Args:
        items: files, folders, or patterns such as ``photos/**/*.jpg``.

    Raises:
        InputError: if there is no such file or folder, or nothing that a pattern or folder holds.
    """
    paths = dict.fromkeys(path for item in items for path in _files(item))
    return [Photo(path, _reason(path)) for path in paths]


def _files(item: str) -> Iterator[Path]:
    path = Path(item)
    if path.is_dir():
        files = list_files(path)
        if not files:
            raise InputError(f"{item}: no file in this folder; name one that holds images.")
        yield from files
    elif path.exists() or path.is_symlink():
        yield path
    elif found := sorted(glob.glob(item, recursive=True)):  # noqa: PTH207  Path's takes no root
        for name in found:
            yield from _files(name)
    else:
        kind = "file matches this pattern" if glob.has_magic(item) else "such file or folder"
        raise InputError(f"{item}: no {kind}.")


def _reason(path: Path) -> str:
    if has_image_suffix(path):
        return ""
    kind = f"{path.suffix} files" if path.suffix else "files without a suffix"
    return f"{kind} are not read"
