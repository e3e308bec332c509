"""Places of checkpoints: folders, and repositories of the hub with a folder in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lit_biqa.runs.recipes import how_made
from lit_biqa.types import InputError

# Names that the hub would resolve; anything else is a path.
_HUB_NAME = re.compile(r"(?!runs/)[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def check_there(source: str) -> None:
    """Check that a checkpoint named by a path exists: transformers' message does not say so.

    Args:
        source: its folder, or a name that transformers can resolve.

    Raises:
        InputError: names the path, and the command that makes it.
    """
    if Path(source).exists() or _HUB_NAME.fullmatch(source):
        return
    if Path(source).expanduser().exists():
        raise InputError(f"{source}: write the path out, as {Path(source).expanduser()}.")
    raise InputError(f"{source} does not exist: {how_made(Path(source))}")


@dataclass(frozen=True)
class Place:
    """Folder with files of a checkpoint, or a repository of the hub.

    Attributes:
        name: the folder, or a name that transformers can resolve.
        subfolder: folder inside the repository; empty for its top, and for a local folder.
    """

    name: str
    subfolder: str = ""

    @classmethod
    def of(cls, source: str | Place, subfolder: str = "") -> Place:
        """Place of a source that may be a folder; the place itself if it is one already."""
        if isinstance(source, Place):
            return source
        local = Path(source).is_dir()
        return cls(str(Path(source) / subfolder)) if local else cls(source, subfolder)

    def __str__(self) -> str:
        """Name with the subfolder, for people."""
        return f"{self.name}/{self.subfolder}" if self.subfolder else self.name

    @property
    def options(self) -> dict[str, str]:
        """Options of ``from_pretrained`` beside the name."""
        return {"subfolder": self.subfolder} if self.subfolder else {}

    def file(self, name: str) -> Path | None:
        """Path of a file, fetched from the hub if need be; ``None`` if there is none."""
        from lit_biqa.compat.transformers import cached_file

        path = cached_file(
            self.name, name, _raise_exceptions_for_missing_entries=False, **self.options
        )
        return None if path is None else Path(path)
