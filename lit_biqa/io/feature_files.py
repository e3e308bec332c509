"""Files of what a frozen network computed, kept in the cache folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lit_biqa.io.cache import cache_root
from lit_biqa.io.files import replacing
from lit_biqa.io.seals import check_notes, seal_notes
from lit_biqa.types import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FeatureFiles:
    """Files of features of one network, each with several tensors by name.

    Attributes:
        digest: of all that the features depend on beside their input; files with those of another
            network are refused.
        kind: name of the folder of all networks.
    """

    digest: str
    kind: str = "features"

    @property
    def folder(self) -> Path:
        """Folder of this network's features."""
        return cache_root() / self.kind / self.digest[:16]

    @property
    def _format(self) -> str:
        return f"lit_biqa-{self.kind}-1"

    def read(self, path: Path) -> dict[str, Tensor]:
        """Tensors of a file.

        Raises:
            InputError: if the file is damaged or holds the features of another network.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                notes = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            check_notes(notes, tensors)
            if notes.get("format") != self._format or notes.get("network") != self.digest:
                raise InputError("features of another network, or of other settings")
        except (InputError, SafetensorError, OSError, ValueError) as error:
            raise InputError(
                f"{path}: {error}; remove {self.folder}: its features are computed again."
            ) from error
        return tensors

    def write(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Write a file.

        Raises:
            InputError: if the folder cannot be written.
        """
        from safetensors.torch import save

        plain = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        notes = {"format": self._format, "network": self.digest}
        with replacing(path) as part:
            part.write_bytes(save(plain, metadata=seal_notes(notes, plain)))
