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
_LENGTH = len(_MARK) + 64  # bytes of the comment
_ENDING = 22  # bytes of the zip format's end record, which precedes the comment
_CHUNK = 2**22  # bytes; smaller pieces are digested in the writing thread

_checked: dict[Path, tuple[int, int, int]] = {}  # files that this process wrote or has checked


class SealingFile:
    """File object for `torch.save` that digests each piece while it is written to the disk.

    No byte is read back and no copy is kept.

    Args:
        file: an empty file, open for writing bytes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest = file, hashlib.sha256()
        self._beside = ThreadPoolExecutor(1)

    def write(self, data: bytes | memoryview) -> int:
        """Write the next piece; pieces arrive in order."""
        if len(data) < _CHUNK:
            self._digest.update(data)
            return self._file.write(data)
        digested = self._beside.submit(self._digest.update, data)
        try:
            return self._file.write(data)
        finally:
            digested.result()

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()

    def seal(self) -> None:
        """Write the digest as the archive's comment, in place of its empty comment."""
        self._beside.shutdown()
        self._file.seek(-2, os.SEEK_END)
        self._file.write(_ending(self._digest.hexdigest()))


def _ending(digest: str) -> bytes:
    """Length of the comment, in two bytes as the zip format has it, followed by the comment."""
    return _LENGTH.to_bytes(2, "little") + _MARK + digest.encode()


def note_written(path: Path) -> None:
    """Mark a file that this process has just written as checked, which saves a second digest."""
    _checked[path.absolute()] = _stamp(path)


def refuse_folder(path: Path) -> None:
    """Refuse a folder: Lightning would take it for a sharded checkpoint and unpickle it.

    Raises:
        InputError: if the path is a folder, a pipe or a device.
    """
    if path.is_dir():
        raise InputError(
            f"{path} is a folder, the form in which some strategies save sharded checkpoints. "
            f"Reading one can run a program that it holds: take a checkpoint of one file, which a "
            f"fit writes with save_distributed_checkpoint: false under trainer.strategy."
        )
    refuse_special(path)


def check_archive(path: Path) -> None:
    """Compare a checkpoint file with its digest, if it has one; once per process.

    Raises:
        InputError: if they differ, or if the path is a folder, a pipe or a device.
    """
    refuse_folder(path)
    if not path.is_file() or _checked.get(path.absolute()) == _stamp(path):
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
    """True if an archive of ``size`` bytes before its comment has our comment, intact or damaged.

    torch writes no comment, so that a comment of our length without our mark is a damaged one.
    """
    file.seek(size - _ENDING)
    ending = file.read(_ENDING + len(_MARK))
    return ending.endswith(_MARK) or ending.startswith(b"PK\5\6")


def _digest(file: IO[bytes], count: int) -> str:
    """Digest of the first ``count`` bytes and of the length of an empty comment, two zero bytes."""
    digest = hashlib.sha256()
    while count:
        piece = file.read(min(count, _CHUNK))
        if not piece:
            break
        digest.update(piece)
        count -= len(piece)
    digest.update(bytes(2))
    return digest.hexdigest()


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
