"""Checkpoint files: zip archives whose comment is a digest of all bytes before it."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from lit_biqa.io.files import refuse_special
from lit_biqa.types import InputError

_MARK = b"lit_biqa-1:"
_LENGTH = len(_MARK) + 64  # of the comment
_ENDING = 22  # bytes of the zip format's own end record, which stands before the comment
_CHUNK = 2**22  # bytes; smaller pieces are digested at once

_known: dict[Path, tuple[int, int, int]] = {}  # files that this process wrote or has checked


class SealingFile:
    """What `torch.save` writes to: each piece is digested while it goes to the disk.

    No byte is read again and no copy is kept.

    Args:
        file: open for writing bytes, empty.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest = file, hashlib.sha256()
        self._beside = ThreadPoolExecutor(1)

    def write(self, data: bytes | memoryview) -> int:
        """Write a piece, from the first to the last in order."""
        if len(data) < _CHUNK:
            self._digest.update(data)
            return self._file.write(data)
        digested = self._beside.submit(self._digest.update, data)
        try:
            return self._file.write(data)
        finally:
            digested.result()

    def flush(self) -> None:
        """Hand on what was written."""
        self._file.flush()

    def seal(self) -> None:
        """Write the comment, in place of the one of no bytes that ends the archive."""
        self._beside.shutdown()
        self._file.seek(-2, os.SEEK_END)
        self._file.write(_ending(self._digest.hexdigest()))


def _ending(digest: str) -> bytes:
    """The length of the comment, in two bytes as zip has it, and the comment."""
    return _LENGTH.to_bytes(2, "little") + _MARK + digest.encode()


def note_written(path: Path) -> None:
    """Spare this process the check of a file that it has just written."""
    _known[path.absolute()] = _stamp(path)


def refuse_folder(path: Path) -> None:
    """Refuse what Lightning would take for a sharded checkpoint, and unpickle.

    Raises:
        InputError: if the path is a folder, a pipe or a device.
    """
    if path.is_dir():
        raise InputError(
            f"{path} is a folder, as a strategy writes that shards checkpoints. Reading it would "
            f"run whatever program it holds: take a checkpoint of one file, which a fit writes "
            f"with save_distributed_checkpoint: false under trainer.strategy."
        )
    refuse_special(path)


def check_archive(path: Path) -> None:
    """Compare a checkpoint file with its digest, where it has one, once in a process.

    Raises:
        InputError: if they differ, or the path is a folder, a pipe or a device.
    """
    refuse_folder(path)
    if not path.is_file() or _known.get(path.absolute()) == _stamp(path):
        return
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END) - _LENGTH
        if size < _ENDING or not _is_ours(file, size):
            return
        file.seek(0)
        digest = _digest(file, size - 2)
        if file.read() != _ending(digest):
            raise InputError(
                f"{path} is damaged: its content differs from the digest it was written with. "
                f"Copy it again, or take another checkpoint of the run."
            )
    note_written(path)


def _is_ours(file: IO[bytes], size: int) -> bool:
    """Whether an archive of so many bytes has our comment, or one as long, of which the mark broke.

    torch writes no comment.
    """
    file.seek(size - _ENDING)
    ending = file.read(_ENDING + len(_MARK))
    return ending.endswith(_MARK) or ending.startswith(b"PK\5\6")


def _digest(file: IO[bytes], count: int) -> str:
    """Digest of so many bytes, and of the archive's own ending: a comment of no bytes."""
    found = hashlib.sha256()
    while count:
        piece = file.read(min(count, _CHUNK))
        if not piece:
            break
        found.update(piece)
        count -= len(piece)
    found.update(bytes(2))
    return found.hexdigest()


def _stamp(path: Path) -> tuple[int, int, int]:
    told = path.stat()
    return told.st_ino, told.st_size, told.st_mtime_ns
