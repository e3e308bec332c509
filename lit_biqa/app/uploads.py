"""Uploaded files: in a private folder, and deleted once they are answered."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lit_biqa.app.pictures import Picture

_MEGA = 10**6
_PICTURE, _REASON = "picture", "reason"


@dataclass(frozen=True)
class Upload:
    """A file as a client sends it.

    Attributes:
        name: its name.
        size: its bytes.
        file: its content.
    """

    name: str
    size: int
    file: BinaryIO


class Uploads:
    """Folder of uploaded files, which only this user can read.

    Args:
        folder: folder in which it is made.
        max_bytes: most bytes of a file; a larger one is not kept.
        seconds: age at which files are deleted that no request has asked about.
    """

    def __init__(self, folder: Path, max_bytes: int, seconds: float) -> None:
        self.folder, self.max_bytes, self.seconds = folder, max_bytes, seconds
        self._asked: set[Path] = set()  # whose requests are being answered

    def keep(self, upload: Upload) -> Path:
        """Write a file, into a folder of its own; of one that is too large only the reason."""
        made = Path(tempfile.mkdtemp(dir=self.folder, prefix="upload-"))
        if upload.size > self.max_bytes:
            size, most = upload.size / _MEGA, self.max_bytes / _MEGA
            (made / _REASON).write_text(f"{size:.1f} MB are more than the {most:.1f} MB allowed")
        with (made / _PICTURE).open("wb") as file:
            if upload.size <= self.max_bytes:
                shutil.copyfileobj(upload.file, file)
        return made / _PICTURE

    def picture(self, name: str, path: Path, nearest: int = 0, thumbnail: bool = False) -> Picture:
        """A kept file as a picture to score.

        Args:
            name: name that its client gave it.
            path: path of the file; any other is refused, as no file of this machine may be read.
            nearest: number of prototypes to name.
            thumbnail: true if a small copy is wanted.
        """
        if not self._holds(path):
            reason = "no longer here: upload it again"
            return Picture(name, path, nearest, thumbnail, reason)
        self._asked.add(path.parent)
        told = path.parent / _REASON
        reason = told.read_text() if told.is_file() else ""
        return Picture(name, path, nearest, thumbnail, reason)

    def _holds(self, path: Path) -> bool:
        return path.parent.parent == self.folder and path.name == _PICTURE and path.is_file()

    def forget(self, paths: Sequence[Path]) -> None:
        """Delete files; paths that are none of them are passed over."""
        for path in filter(self._holds, paths):
            shutil.rmtree(path.parent, ignore_errors=True)
            self._asked.discard(path.parent)

    def sweep(self) -> None:
        """Delete files that are older than ``seconds`` and that no request is about."""
        for made in set(self.folder.glob("upload-*")) - self._asked:
            try:
                old = time.time() - made.stat().st_mtime > self.seconds
            except FileNotFoundError:  # deleted by its request
                continue
            if old:
                shutil.rmtree(made, ignore_errors=True)
