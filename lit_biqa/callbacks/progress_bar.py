"""Progress bar for Lightning: rate in images, time left of the epoch and of the fit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar as LightningBar

from lit_biqa.distributed import world
from lit_biqa.progress import Bar, clock
from lit_biqa.types import Batch

# Seconds between lines of one epoch in a log; a shorter epoch has one line.
INTERVAL = 60.0


class ProgressBar(LightningBar):
    """Bar per epoch on a terminal; in a log, one line per epoch and per minute.

    It shows batches, samples per second over all ranks (an image with one of its texts is a sample
    in training, an image in evaluation), the time left of the epoch and of the fit, and values that
    the method logs with ``prog_bar=True``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_enabled = True
        # The bar of the epoch, and inside it that of a validation.
        self._bars: list[Bar] = []
        self._began: tuple[float, float] | None = None

    def enable(self) -> None:
        """Show progress."""
        self.is_enabled = True

    def disable(self) -> None:
        """Show nothing."""
        self.is_enabled = False

    def _open(self, description: str, batches: float, done: int = 0, unit: str = "images") -> None:
        total = int(batches) if math.isfinite(batches) else None
        if self.is_enabled:
            keep = not self._bars
            self._bars.append(Bar(description, total, unit, "batches", done, INTERVAL, keep))

    def _advance(self, batch: Batch, note: Callable[[], str] = str) -> None:
        if self._bars:
            self._bars[-1].advance(len(batch["index"]) * world()[1], note)

    def _close(self, note: str = "") -> None:
        if self._bars:
            closed = self._bars.pop()
            closed.close(note)
            if self._bars:
                self._bars[-1].pause(closed.elapsed())

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close all bars, so that the terminal is usable."""
        while self._bars:
            self._close()

    # Training

    def _epochs(self, trainer: pl.Trainer, batches: float) -> float:
        return trainer.current_epoch + batches / max(self.total_train_batches, 1)

    def _note(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batches: float) -> str:
        metrics = self.get_metrics(trainer, pl_module)
        shown = [f"{k} {v:.4g}" for k, v in metrics.items() if isinstance(v, float)]
        epochs, limit = self._epochs(trainer, batches), trainer.max_epochs or 0
        if self._began is not None and epochs < limit:
            began, at = self._began
            per_epoch = (time.monotonic() - began) / (epochs - at)
            shown.append(f"fit {clock(per_epoch * (limit - epochs))} left")
        return ", ".join(shown)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reset the time of the previous fit."""
        self._began = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Open the epoch's bar; here, because a resumed epoch may begin at any batch."""
        if self._began is None:
            self._began = time.monotonic(), self._epochs(trainer, batch_idx)
        if not self._bars:
            limit = f"/{trainer.max_epochs}" if (trainer.max_epochs or 0) > 0 else ""
            name = f"Epoch {trainer.current_epoch + 1}{limit}"
            self._open(name, self.total_train_batches, batch_idx, "samples")

    def on_train_batch_end(  # noqa: D102
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        self._advance(batch, lambda: self._note(trainer, pl_module, batch_idx + 1))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the epoch's bar, with values of its validation."""
        self._close(self._note(trainer, pl_module, self.total_train_batches))

    # Evaluation

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open a bar, inside the epoch's bar during a fit."""
        if not trainer.sanity_checking:
            self._open("Validation", sum(trainer.num_val_batches))

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar."""
        self._open("Test", sum(trainer.num_test_batches))

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar."""
        self._open("Predict", sum(trainer.num_predict_batches))

    def _batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not trainer.sanity_checking:
            self._advance(batch)

    def _epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar before results are printed."""
        if not trainer.sanity_checking:
            self._close()

    on_validation_batch_end = on_test_batch_end = on_predict_batch_end = _batch_end
    on_validation_epoch_end = on_test_epoch_end = on_predict_epoch_end = _epoch_end
