"""Cache of text embeddings, in memory and on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lit_biqa.io.feature_files import FeatureFiles


class TextEmbeddingCache:
    """Embeds each text once, for this run and for later ones.

    Texts that are embedded together lie in one file, each under its digest.

    Args:
        embed: function of N texts to their embeddings ``[N, D]``.
        digest: of all that an embedding depends on beside its text.
    """

    def __init__(self, embed: Callable[[list[str]], Tensor], digest: str) -> None:
        self._embed, self._files = embed, FeatureFiles(digest, "texts")
        self._kept: dict[str, Tensor] | None = None

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embeddings ``[B, D]`` of B texts, on the CPU.

        Raises:
            InputError: if the file of earlier embeddings is damaged or of another encoder, or new
                ones cannot be written.
        """
        if self._kept is None:
            self._kept = self._earlier()
        names = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        new = {n: t for n, t in zip(names, texts, strict=True) if n not in self._kept}
        if new:
            rows = self._embed(list(new.values())).float().cpu()
            self._add(dict(zip(new, rows, strict=True)))
        return torch.stack([self._kept[name] for name in names])

    def _earlier(self) -> dict[str, Tensor]:
        files = sorted(self._files.folder.glob("*.safetensors"))
        return {name: row for file in files for name, row in self._files.read(file).items()}

    def _add(self, rows: dict[str, Tensor]) -> None:
        assert self._kept is not None
        self._kept |= rows
        name = hashlib.sha256("".join(rows).encode()).hexdigest()[:32]
        self._files.write(self._files.folder / f"{name}.safetensors", rows)
