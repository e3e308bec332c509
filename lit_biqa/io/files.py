"""Files written whole or not at all, and special files (pipes, devices) refused before reading."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lit_biqa.types import InputError

try:
    import fcntl
except ImportError:  # Windows has no such locks; leftovers of killed writers stay there
    fcntl = None  # type: ignore[assignment]

_SPECIAL = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def refuse_special(path: Path) -> None:
    """Refuse a path that exists and is no regular file: opening a pipe or a device could hang.

    Raises:
        InputError: names the path and its kind.
    """
    try:
        kind = _SPECIAL.get(stat.S_IFMT(path.stat().st_mode))
    except (OSError, ValueError):  # whoever opens the path reports that it is absent or invalid
        return
    if kind:
        raise InputError(f"{path} is {kind}, not a file: name a regular file.")


def as_utf8(text: str) -> str:
    r"""Replace characters that UTF-8 cannot encode by escapes such as ``\udcff``.

    File names are bytes; Python decodes a name that is not UTF-8 to characters that UTF-8 refuses.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def find(name: str, root: Path) -> Path:
    """Path of a setting, relative to the working directory or, if absent there, to ``root``."""
    path = Path(name)
    return path if path.exists() else root / path


def refuse_bytes(path: Path) -> None:
    """Refuse a run folder whose name is not UTF-8: some libraries cannot write there.

    Raises:
        InputError: names the folder.
    """
    if (name := as_utf8(str(path))) != str(path):
        raise InputError(f"{name} has a name that is not UTF-8: choose another --run folder.")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Temporary file beside ``path`` that replaces ``path`` once all of it is on the disk.

    On any failure the temporary file is removed and the file at ``path`` stays unchanged.

    Raises:
        OSError: if the file cannot be written; names ``path``.
    """
    try:
        with _sibling(path, folder=False) as part:
            yield part
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """Temporary folder beside ``path``, to be filled and renamed; it is removed if not renamed.

    Raises:
        OSError: if the folder cannot be made.
    """
    with _sibling(path, folder=True) as part:
        yield part


@contextmanager
def _sibling(path: Path, folder: bool) -> Iterator[Path]:
    """New file or folder with an unpredictable name, so that nobody can plant a link at its path.

    A lock marks it as in use. The next writer of ``path`` removes what killed writers left.
    """
    part = path.with_name(f".{secrets.token_hex(4)}.{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    if folder:
        part.mkdir()
        descriptor = os.open(part, os.O_RDONLY) if fcntl else None
    else:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with suppress(OSError):  # some network file systems have no locks
            _lock(descriptor)
        yield part
    finally:
        if descriptor is not None:
            os.close(descriptor)
        _remove(part)


def _remove_leftovers(path: Path) -> None:
    for left in path.parent.glob(f".????????.{glob.escape(path.name)}.part"):
        if fcntl is None or left.is_symlink():
            continue
        with suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                _lock(descriptor)
                _remove(left)
            finally:
                os.close(descriptor)


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _lock(descriptor: int | None) -> None:
    """Take the lock of an open file.

    Raises:
        OSError: if a living process holds it.
    """
    if fcntl is not None and descriptor is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """`whole` for results: the error says what to do, and an older file is kept.

    Raises:
        InputError: if the file cannot be written, for instance on a full disk.
    """
    try:
        with whole(path) as part:
            yield part
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}. Make room or choose another "
            f"folder, then repeat the command. A file that was there before is unchanged."
        ) from error
