"""Time, throughput and memory of a fit and of a test."""

from __future__ import annotations

import math
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from lit_biqa.callbacks.correlation import report_of, tested_weights
from lit_biqa.callbacks.weights import steps_of
from lit_biqa.compat.versions import installed
from lit_biqa.distributed import gather_rows, world
from lit_biqa.evaluation import report, store, tables
from lit_biqa.progress import clock
from lit_biqa.types import Batch, TextPrediction

_FIGURES = ("what", "images", "seconds", "seconds_per_image", "peak_memory_gib", "hours_per_epoch")
COSTS = (*_FIGURES, "device", "versions")
TEST_COSTS = (*COSTS, "datasets", "weights")
_PACKAGES = ("lit_biqa", "torch", "lightning", "transformers")


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

    Logged as ``train/seconds``, ``train/images_per_second``, ``train/peak_memory_gib`` and the same
    under ``test/``. A fit ends with a table of its totals, a test with one line. Rates and costs
    count an image each time it is shown, over all ranks; the table counts images once, and samples
    each time. Time runs from the start of an epoch to the end of its last batch, without
    validations; memory is that of the rank with the most.

    ``costs.csv`` under the trainer's ``default_root_dir`` holds the same, with device and versions,
    columns `COSTS`: one line for a fit, with the hours per epoch, and one more for each resumption.
    ``test/costs.csv`` holds the lines of tests, one for each timed condition, with data sets and
    weights (`TEST_COSTS`): repeating a test replaces its lines.
    """

    def __init__(self) -> None:
        self._images, self._seconds, self._since = 0, 0.0, 0.0
        self._epochs, self._all_images, self._all_seconds = 0, 0, 0.0
        self._batches = 0
        self._shown: set[tuple[str, int]] = set()
        self._read_in: dict[str, list[float]] = defaultdict(list)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Read the costs that a run will add to, before weights are read.

        Raises:
            InputError: if the file cannot be read.
        """
        if stage in ("fit", "test") and _file(trainer, stage).exists():
            store.read_costs(_file(trainer, stage))

    def _start(self) -> None:
        self._since = time.monotonic()

    def _count(self, batch: Batch) -> None:
        now = time.monotonic()
        self._images += len(batch["index"])
        self._seconds += now - self._since
        self._since = now

    def _read(self, device: torch.device) -> dict[str, float]:
        """Figures over all ranks since the last call; every rank must call it."""
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
        """Reset the totals of a fit; a fit that resumes within an epoch starts its clock here."""
        self._epochs = self._images = self._all_images = self._batches = 0
        self._seconds = self._all_seconds = 0.0
        self._shown.clear()
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
        self._batches += 1
        self._shown.update(zip(batch["dataset"], batch["index"].tolist(), strict=True))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue the clock of the training epoch."""
        self._start()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch's figures."""
        self._epochs += 1
        for name, value in self._read(pl_module.device).items():
            pl_module.log(f"train/{name}", value, sync_dist=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the totals of the fit with the last logged values, and write its costs.

        Raises:
            InputError: if the file cannot be written.
        """
        logged = {name: f"{value:.4f}" for name, value in trainer.progress_bar_metrics.items()}
        memory, epochs = peak_memory(pl_module.device), self._batches / trainer.num_training_batches
        hours = self._all_seconds / max(epochs, 1e-9) / 3600
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            line = _line("train", self._all_images, self._all_seconds, memory, hours)
            line |= _measured_with(pl_module.device)
            with store.locked(_file(trainer, "fit").parent):
                # Each part of a resumed fit is a line of its own.
                store.merge_costs(_file(trainer, "fit"), COSTS, [line], id)
        images = len(gather_rows(list(self._shown), lambda image: image))
        totals = {
            "epochs": str(self._epochs),
            "images": f"{images:,}",
            "samples": f"{self._all_images:,} (an image each time it was shown)",
            "samples/s": f"{self._all_images / max(self._all_seconds, 1e-9):.1f}",
            "training": f"{clock(self._all_seconds)} (without validation)",
            "per epoch": clock(hours * 3600),
            "peak memory": f"{memory:.2f} GiB",
        }
        pl_module.print(tables.pairs("Fit", totals | logged))

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._images, self._all_images, self._seconds = 0, 0, 0.0
        self._read_in.clear()
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
        for row in outputs:
            if isinstance(row, TextPrediction) and math.isfinite(row.seconds):
                self._read_in[row.condition].append(row.seconds)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log and print the figures of the test, and write its costs.

        Raises:
            InputError: if the file cannot be written.
        """
        figures, images = self._read(pl_module.device), self._all_images
        timed = gather_rows(
            [(name, world()[0], len(times), sum(times)) for name, times in self._read_in.items()],
            lambda row: row[:2],
        )
        for logger in trainer.loggers:
            costs = {f"test/{name}": value for name, value in figures.items()}
            logger.log_metrics(costs, steps_of(pl_module, trainer))
        if trainer.is_global_zero:
            lines = [_line("test", images, figures["seconds"], figures["peak_memory_gib"])]
            for name in sorted({row[0] for row in timed}):
                count = sum(row[2] for row in timed if row[0] == name)
                seconds = sum(row[3] for row in timed if row[0] == name)
                lines.append(_line(name, count, seconds))
            self._save_test(trainer, lines, _measured_with(pl_module.device))
        pl_module.print(
            f"Tested {images:,} images in {clock(figures['seconds'])}, "
            f"{figures['images_per_second']:.1f} images/s, "
            f"peak memory {figures['peak_memory_gib']:.2f} GiB"
        )

    def _save_test(
        self, trainer: pl.Trainer, lines: list[dict[str, str]], measured_with: dict[str, str]
    ) -> None:
        tested = report_of(trainer)
        results = tested.results if tested else []
        sets = sorted({f"{r.dataset}/{r.split}" for r in results if not r.is_derived})
        which = {"datasets": ", ".join(sets), "weights": tested_weights(trainer)}
        path = _file(trainer, "test")
        with store.locked(path.parent):
            fresh = [line | measured_with | which for line in lines]
            store.merge_costs(path, TEST_COSTS, fresh, _test)


def _file(trainer: pl.Trainer, stage: str) -> Path:
    folder = Path(trainer.default_root_dir)
    return (folder / "test" if stage == "test" else folder) / "costs.csv"


def _test(line: store.Cells) -> tuple[str, str]:
    return line.get("datasets", ""), line.get("weights", report.UNKNOWN)


def _line(
    what: str, images: int, seconds: float, memory: float = math.nan, hours: float = math.nan
) -> dict[str, str]:
    values = (what, images, seconds, seconds / max(images, 1), memory, hours)
    return {name: report.number(v) for name, v in zip(_FIGURES, values, strict=True)}


def _measured_with(device: torch.device) -> dict[str, str]:
    """Device and versions, without which figures of time and memory cannot be read."""
    name = f"CPU, {torch.get_num_threads()} threads"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return {"device": name, "versions": installed(*_PACKAGES)}
