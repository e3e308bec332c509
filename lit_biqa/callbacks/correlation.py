"""Correlation with MOS after validation and test, for every method alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger

from lit_biqa import report
from lit_biqa.callbacks.scatter import scatter
from lit_biqa.callbacks.tensorboard import log_test
from lit_biqa.files import replacing
from lit_biqa.hyperparameters import read_hyperparameters
from lit_biqa.parallel import gather_rows
from lit_biqa.types import InputError, Prediction


class CorrelationReport(pl.Callback):
    """Collect predictions over batches and ranks, correlate them, report.

    The method's ``validation_step`` and ``test_step`` return ``list[Prediction]``. Rows are
    gathered over ranks and freed of repeats before anything is computed, so figures do not depend
    on the number of processes.

    Validation logs ``val/plcc`` and ``val/srcc``, means over the data sets, and
    ``val/<dataset>/plcc`` and so on, for checkpoints and early stopping to monitor. An undefined
    correlation is logged as ``nan``, with a warning: `ModelCheckpoint` never takes it for the
    best, and `EarlyStopping` stops at it unless its ``check_finite`` is off. ``validate`` prints
    the table of a test.

    A test prints one table and only then writes, under the trainer's ``default_root_dir``,
    ``test/results.csv``, ``test/predictions.csv``, a scatter ``test/<dataset>.png`` for each data
    set and, where the trainer logs to TensorBoard, events with metrics, scatters and the settings
    in ``config.yaml``.

    Args:
        bootstrap: resamples for the 95% intervals of a table; 0 for none.
        seed: of the resampling.

    Attributes:
        results: lines of the last test, on rank zero.
    """

    def __init__(self, bootstrap: int = 1000, seed: int = 0) -> None:
        self.bootstrap, self.seed = bootstrap, seed
        self.results: list[report.Result] = []
        self._rows: list[Prediction] = []

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the rows of the epoch before."""
        self._rows = []

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the rows of a validation."""
        self._rows = []

    def on_validation_batch_end(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        self._rows.extend(report.checked(outputs, "validation_step"))

    def on_test_batch_end(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        self._rows.extend(report.checked(outputs, "test_step"))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log correlations to monitor; a sanity check logs none."""
        if trainer.sanity_checking:
            return
        alone = trainer.state.fn == "validate"
        rows = gather_rows(self._rows, report.identity)
        results = report.evaluate(rows, self.bootstrap if alone else 0, self.seed)
        for label, result in zip(report.labels(results), results, strict=True):
            mean = result.dataset == report.MEAN
            tag = f"val{label.removeprefix(report.MEAN)}" if mean else f"val/{label}"
            for name in ("plcc", "srcc"):
                # Equal on every rank already; without sync_dist Lightning would doubt it.
                value = getattr(result.correlations, name)
                pl_module.log(f"{tag}/{name}", value, prog_bar=mean, sync_dist=True)
        if alone:
            pl_module.print(report.table(results, "Validation"))

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the table, then write the files: a full disk loses no figure.

        Raises:
            InputError: if nothing was measured, or a file cannot be written.
        """
        rows = gather_rows(self._rows, report.identity)
        if not rows:
            raise InputError(
                "the test measured no row: its steps returned no predictions. Look at what reads "
                "scores (model.readouts); no results were written."
            )
        if not trainer.is_global_zero:
            return
        self.results = report.evaluate(rows, self.bootstrap, self.seed)
        pl_module.print(report.table(self.results, "Test"))
        folder = Path(trainer.default_root_dir) / "test"
        report.write_results(folder / "results.csv", self.results)
        report.write_predictions(folder / "predictions.csv", rows)
        self._illustrate(trainer, rows, folder)

    def _illustrate(self, trainer: pl.Trainer, all_rows: list[Prediction], folder: Path) -> None:
        groups, metrics, figures = report.grouped(all_rows), {}, {}
        for label, result in zip(report.labels(self.results), self.results, strict=True):
            for name in report.METRICS:
                metrics[f"test/{label}/{name}"] = float(getattr(result.correlations, name))
            if rows := groups.get((result.dataset, result.split, result.condition)):
                figure = scatter(rows, result)
                figures[f"test/{label}"] = figure
                with replacing(folder / f"{label.replace('/', '-')}.png") as part:
                    figure.savefig(part, format="png")
        for logger in trainer.loggers:
            if not isinstance(logger, TensorBoardLogger):
                logger.log_metrics(metrics, trainer.global_step)
        if any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
            run = folder.parent
            settings = read_hyperparameters(run) if (run / "config.yaml").exists() else {}
            log_test(folder, settings, metrics, figures, trainer.global_step)
