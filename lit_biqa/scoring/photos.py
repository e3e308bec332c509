"""Photographs on a command line: files, folders and patterns, and the reason for files not read."""

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
        path: path of the file, as named or inside a named folder.
        reason: reason why it is not opened; empty if it is.
    """

    path: Path
    reason: str = ""


def find_photos(items: Sequence[str]) -> list[Photo]:
    """All files of the arguments, each once, in the order of the arguments.

    Folders are searched at any depth; hidden files in them are skipped.

    Example:
        >>> find_photos(["a.jpg", "photos"])
        [Photo('a.jpg'), Photo('photos/b.heic'), Photo('photos/c.txt', '.txt files are not read')]

    Args:
        items: files, folders, or patterns such as ``photos/**/*.jpg``.

    Raises:
        InputError: if a file or folder does not exist, or a pattern or folder has no files.
    """
    paths = dict.fromkeys(path for item in items for path in _files(item))
    return [Photo(path, _reason(path)) for path in paths]


def _files(item: str) -> Iterator[Path]:
    if not item.strip():
        raise InputError("a name is empty: name files, folders or patterns of images.")
    path = Path(item)
    if path.is_dir():
        files = list_files(path)
        if not files:
            raise InputError(f"{item}: this folder has no file; name one that holds images.")
        yield from files
    elif path.exists() or path.is_symlink():
        yield path
    elif matches := sorted(glob.glob(item, recursive=True)):  # noqa: PTH207  Path's takes no root
        for name in matches:
            yield from _files(name)
    else:
        kind = "file matches this pattern" if glob.has_magic(item) else "such file or folder"
        raise InputError(f"{item}: no {kind}.")


def _reason(path: Path) -> str:
    if has_image_suffix(path):
        return ""
    kind = f"{path.suffix} files" if path.suffix else "files without a suffix"
    return f"{kind} are not read"
