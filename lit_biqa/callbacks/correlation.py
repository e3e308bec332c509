"""Correlation with MOS after validation and test, for every method alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from lit_biqa import report
from lit_biqa.parallel import gather_rows
from lit_biqa.types import Prediction


class CorrelationReport(pl.Callback):
    """Collect predictions over batches and ranks, correlate them, report.

    The method's ``validation_step`` and ``test_step`` return ``list[Prediction]``. Rows are
    gathered over ranks and freed of repeats before anything is computed, so figures do not depend
    on the number of processes.

    Validation logs ``val/plcc`` and ``val/srcc``, means over the data sets, and
    ``val/<dataset>/plcc`` and so on, for `ModelCheckpoint` and `EarlyStopping` to monitor. An
    undefined correlation is logged as ``nan``, with a warning: `ModelCheckpoint` never takes it
    for the best, and `EarlyStopping` stops at it unless its ``check_finite`` is off.

    A test prints one table, then writes ``test/results.csv``, ``test/predictions.csv`` and a
    scatter figure per data set under the trainer's ``default_root_dir``.

    Args:
        bootstrap: resamples for the 95% intervals of a test; 0 for none.
        seed: of the resampling.

    Attributes:
        results: lines of the last test, on rank zero.
    """

    def __init__(self, bootstrap: int = 1000, seed: int = 0) -> None:
        self.bootstrap, self.seed = bootstrap, seed
        self.results: list[report.Result] = []
        self._rows: list[Prediction] = []

    def _collect(self, outputs: Any) -> None:
        if not isinstance(outputs, list):
            raise TypeError(f"a step must return list[Prediction], not {type(outputs).__name__}")
        self._rows.extend(outputs)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the rows of an epoch before."""
        self._rows = []

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the rows of a validation before."""
        self._rows = []

    def on_validation_batch_end(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        self._collect(outputs)

    def on_test_batch_end(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        self._collect(outputs)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log correlations for monitoring; the sanity check logs none."""
        if trainer.sanity_checking:
            return
        results = report.evaluate(gather_rows(self._rows, report.identity), bootstrap=0)
        for result, label in zip(results, report.labels(results), strict=True):
            mean = result.dataset == report.MEAN
            tag = f"val{label.removeprefix(report.MEAN)}" if mean else f"val/{label}"
            for name in ("plcc", "srcc"):
                value = getattr(result.figures, name)
                # Equal on every rank already; sync_dist keeps Lightning from warning that it
                # might not be.
                pl_module.log(f"{tag}/{name}", value, prog_bar=mean, sync_dist=True)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the table, then write the files: a full disk loses no figure."""
        rows = gather_rows(self._rows, report.identity)
        if not trainer.is_global_zero:
            return
        self.results = report.evaluate(rows, self.bootstrap, self.seed)
        pl_module.print(report.table(self.results))
        folder = Path(trainer.default_root_dir) / "test"
        report.write_results(folder / "results.csv", self.results)
        report.write_predictions(folder / "predictions.csv", rows)
