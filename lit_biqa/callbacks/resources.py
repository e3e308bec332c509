"""Time, throughput and memory of a fit and of a test."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning.pytorch as pl
import torch

from lit_biqa import report
from lit_biqa.parallel import gather_rows, world
from lit_biqa.progress import clock
from lit_biqa.types import Batch


def peak_memory(device: torch.device) -> float:
    """Highest memory so far in GiB: allocated on a CUDA device, else resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource

    # Linux counts in KiB, macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


class ResourceMeter(pl.Callback):
    """Log seconds, images per second and peak memory of each training epoch and of a test.

    Logged as ``train/seconds``, ``train/images_per_second``, ``train/peak_memory_gib`` and the
    same under ``test/``. A fit ends with a table of its totals, a test with one line. Images are
    counted over all ranks and include repeats; time runs from the start of an epoch to the end of
    its last batch, without the validations between; memory is that of the rank that took most.
    """

    def __init__(self) -> None:
        self._images, self._seconds, self._since = 0, 0.0, 0.0
        self._epochs, self._all_images, self._all_seconds = 0, 0, 0.0

    def _start(self) -> None:
        self._since = time.monotonic()

    def _count(self, batch: Batch) -> None:
        now = time.monotonic()
        self._images += len(batch["index"])
        self._seconds += now - self._since
        self._since = now

    def _read(self, device: torch.device) -> dict[str, float]:
        """Figures over all ranks since the last reading; every rank must take part."""
        ranks = gather_rows([(world()[0], self._images, peak_memory(device))], lambda row: row[0])
        images, seconds = sum(row[1] for row in ranks), self._seconds
        self._images, self._seconds = 0, 0.0
        self._all_images, self._all_seconds = self._all_images + images, self._all_seconds + seconds
        return {
            "seconds": seconds,
            "images_per_second": images / max(seconds, 1e-9),
            "peak_memory_gib": max(row[2] for row in ranks),
        }

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the totals of a fit; one that resumes within an epoch starts its clock here."""
        self._epochs = self._images = self._all_images = 0
        self._seconds = self._all_seconds = 0.0
        self._start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start()

    def on_train_batch_end(  # noqa: D102
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        self._count(batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with the clock of the training epoch."""
        self._start()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch's figures."""
        self._epochs += 1
        for name, value in self._read(pl_module.device).items():
            pl_module.log(f"train/{name}", value, sync_dist=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the totals of the fit beside what was last logged."""
        logged = {name: f"{value:.4f}" for name, value in trainer.progress_bar_metrics.items()}
        totals = {
            "epochs": str(self._epochs),
            "images": str(self._all_images),
            "time": clock(self._all_seconds),
            "images/s": f"{self._all_images / max(self._all_seconds, 1e-9):.1f}",
            "peak memory": f"{peak_memory(pl_module.device):.2f} GiB",
        }
        pl_module.print(report.pairs("Fit", totals | logged))

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._images, self._seconds = 0, 0.0
        self._start()

    def on_test_batch_end(  # noqa: D102
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._count(batch)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log and print the test's figures."""
        figures = self._read(pl_module.device)
        for logger in trainer.loggers:
            logger.log_metrics({f"test/{k}": v for k, v in figures.items()}, trainer.global_step)
        pl_module.print(
            f"Tested in {clock(figures['seconds'])}, {figures['images_per_second']:.1f} images/s, "
            f"peak memory {figures['peak_memory_gib']:.2f} GiB"
        )
