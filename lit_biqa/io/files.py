"""Files written whole or not at all, and files from outside opened only if they are files."""

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
except ImportError:  # Windows has no such locks; leftovers stay there
    fcntl = None  # type: ignore[assignment]

_SPECIAL = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def refuse_special(path: Path) -> None:
    """Refuse what is there and is no file: opening a pipe waits for ever, a device never ends.

    Raises:
        InputError: naming the path and what lies there.
    """
    try:
        kind = _SPECIAL.get(stat.S_IFMT(path.stat().st_mode))
    except (OSError, ValueError):  # what is absent or no path at all is told by who opens it
        return
    if kind:
        raise InputError(f"{path} is {kind}, not a file: name a regular file.")


def as_utf8(text: str) -> str:
    r"""A text as a file in UTF-8 can hold it: what it cannot hold stands there as ``\udcff``.

    Names of files are bytes, and Python reads one that is not UTF-8 as letters that no file takes.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def find(name: str, root: Path) -> Path:
    """What a setting names, relative to the working directory or else to ``root``."""
    path = Path(name)
    return path if path.exists() else root / path


def refuse_bytes(path: Path) -> None:
    """Refuse a folder for results whose name is not UTF-8: some libraries cannot write there.

    Raises:
        InputError: naming it.
    """
    if (name := as_utf8(str(path))) != str(path):
        raise InputError(f"{name} has a name that is not UTF-8: choose another --run folder.")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A sibling to write to, which takes the place of ``path`` once it lies on the disk entire.

    If anything fails the sibling is removed and what lay at ``path`` is as it was.

    Raises:
        OSError: if it cannot be written; names ``path``.
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
    """A folder beside ``path`` to be filled and renamed; what was not renamed is removed.

    Raises:
        OSError: if it cannot be made.
    """
    with _sibling(path, folder=True) as part:
        yield part


@contextmanager
def _sibling(path: Path, folder: bool) -> Iterator[Path]:
    """A new file or folder, which nobody could foresee and have a link lead elsewhere.

    A lock says that its writer lives: what killed ones left is removed when the next begins.
    """
    part = path.with_name(f".{secrets.token_hex(4)}.{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    if folder:
        part.mkdir()
        held = os.open(part, os.O_RDONLY) if fcntl else None
    else:
        held = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with suppress(OSError):  # some network disks know no locks
            _lock(held)
        yield part
    finally:
        if held is not None:
            os.close(held)
        _remove(part)


def _remove_leftovers(path: Path) -> None:
    for left in path.parent.glob(f".????????.{glob.escape(path.name)}.part"):
        if fcntl is None or left.is_symlink():
            continue
        with suppress(OSError):
            held = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                _lock(held)
                _remove(left)
            finally:
                os.close(held)


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _lock(held: int | None) -> None:
    """Take the lock of an open file.

    Raises:
        OSError: if a living process holds it.
    """
    if fcntl is not None and held is not None:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """As `whole`, for results: what was computed is not lost, and the error says what to do.

    Raises:
        InputError: if it cannot be written, as on a full disk.
    """
    try:
        with whole(path) as part:
            yield part
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}. Make room or choose another "
            f"folder, then repeat the command; what lay there is as it was."
        ) from error
