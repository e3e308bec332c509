"""Files written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lit_biqa.types import InputError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A sibling to write to, which takes the place of ``path`` once it lies on the disk entire.

    If anything fails the sibling is removed and what lay at ``path`` is as it was.

    Raises:
        OSError: if it cannot be written; names ``path``.
    """
    # One name for all attempts: what a killed process left half written is written over.
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


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
            f"--run folder, then repeat the command; nothing else was changed."
        ) from error
