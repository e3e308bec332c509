"""Gallery: embeddings of all images of a part, gathered over ranks and cached for later heads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor

from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.embeddings import EmbeddingRow, Embeddings, Role, write_embeddings
from lit_biqa.data.loader import BatchLoader
from lit_biqa.distributed import alive, gather_rows
from lit_biqa.progress import track
from lit_biqa.runs import stops
from lit_biqa.types import Batch

Pair = tuple[EmbeddingRow, Tensor]


class Gallery:
    """Collects embeddings from the loaders of a run.

    Args:
        method: module of the run.
        embed: function of a batch to embeddings ``[B, D]``.

    Attributes:
        cache_to: file that `write` makes; while it is set, tested images are kept for it.
    """

    def __init__(self, method: pl.LightningModule, embed: Callable[[Batch], Tensor]) -> None:
        # Not an attribute of a module: the method must not become its own child.
        self.method, self.embed = method, embed
        self.cache_to: Path | None = None
        self._kept: list[Pair] = []
        self._train_loader: Iterable[Batch] | None = None

    @property
    def data(self) -> BIQADataModule:
        """The DataModule of the run."""
        data: BIQADataModule = self.method.trainer.datamodule  # type: ignore[attr-defined]
        return data

    def keep(self, batch: Batch, embeddings: Tensor) -> None:
        """Keep the embeddings of a tested batch, if the run caches them."""
        if self.cache_to is not None:
            self._kept += pairs(batch, embeddings, "test")

    @torch.no_grad()
    def collect(self, role: Role) -> Embeddings:
        """Embed every training or held-out image once; the same result on every rank."""
        data = self.data
        loader: Iterable[Batch] | list[BatchLoader]
        if role == "train":
            # One loader for the whole run: its workers outlive an epoch.
            loader = self._train_loader = self._train_loader or data.gallery_dataloader()
        else:
            loader = data.val_dataloader()
            assert not isinstance(loader, list), "an empty part has nothing to embed"
        training = self.method.training
        rows: list[Pair] = []
        self.method.eval()
        shown = track(
            loader, f"Embedding {role} images", unit="images", units=_size, steps="batches"
        )
        for batch in shown:
            alive()
            moved = self.method.trainer.strategy.batch_to_device(batch)
            with self.method.trainer.precision_plugin.forward_context():
                rows += pairs(moved, self.embed(moved), role)
            stops.check(self.method.device)
        self.method.train(training)
        return _together(rows)

    def write(self) -> None:
        """Write the embeddings of training, held-out and tested images to ``cache_to``."""
        assert self.cache_to is not None
        parts = [self.collect("train")]
        if self.data.samples["val"]:
            parts.append(self.collect("val"))
        parts.append(_together(self._kept))
        if self.method.trainer.is_global_zero:
            vectors = torch.cat([part.vectors for part in parts])
            rows = tuple(row for part in parts for row in part.rows)
            source = {"scorer": "scorer.safetensors"}
            write_embeddings(self.cache_to, Embeddings(vectors, rows, source))
        self.cache_to, self._kept = None, []


def _size(batch: Batch) -> int:
    return len(batch["index"])


def pairs(batch: Batch, embeddings: Tensor, role: Role) -> list[Pair]:
    """Rows of a batch with their embeddings on the CPU; unreadable images are left out."""
    vectors = embeddings.float().cpu()
    return [
        (
            EmbeddingRow(
                dataset=batch["dataset"][row],
                split=batch["split"][row],
                index=int(batch["index"][row]),
                name=batch["name"][row],
                mos=float(batch["mos"][row]),
                std=float(batch["std"][row]),
                role=role,
            ),
            vectors[row],
        )
        for row, status in enumerate(batch["status"])
        if status == "ok"
    ]


def _together(rows: list[Pair]) -> Embeddings:
    gathered = gather_rows(rows, lambda pair: (pair[0].dataset, pair[0].index))
    vectors = torch.stack([vector for _, vector in gathered])
    return Embeddings(vectors, tuple(row for row, _ in gathered))
