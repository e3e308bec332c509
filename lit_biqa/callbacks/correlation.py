"""Correlation with MOS after validation and test, the same for every method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from lit_biqa.callbacks.batches import refuse_none
from lit_biqa.callbacks.places import places_of
from lit_biqa.callbacks.scatter import Figures, rename, save, scatter
from lit_biqa.callbacks.tensorboard import RunLogger
from lit_biqa.callbacks.weights import steps_of, weights_of
from lit_biqa.distributed import gather_rows
from lit_biqa.evaluation import report, store, tables
from lit_biqa.evaluation.conditions import IMAGE
from lit_biqa.evaluation.groups import GroupFigures
from lit_biqa.evaluation.hyperparameters import read_hyperparameters
from lit_biqa.io.files import as_utf8
from lit_biqa.types import InputError, Prediction, check_range

RESULTS, PREDICTIONS, IMAGES = "results.csv", "predictions.csv", "images.csv"


class CorrelationReport(pl.Callback):
    """Collects predictions over batches and ranks, correlates them and reports the result.

    The method's ``validation_step`` and ``test_step`` return ``list[Prediction]``. Rows are
    gathered over ranks and freed of repeats before anything is computed, so figures do not depend
    on the number of processes.

    Validation logs ``val/plcc`` and ``val/srcc``, means over the data sets, and
    ``val/<dataset>/plcc`` and so on, for checkpoints and early stopping to monitor. An undefined
    correlation is logged as ``nan``, with a warning: `ModelCheckpoint` never takes it for the
    best, and `EarlyStopping` stops at it unless its ``check_finite`` is off. ``validate`` prints
    the table of a test.

    A test prints one table and only then writes, under the trainer's ``default_root_dir``,
    ``test/results.csv``, ``test/predictions.csv``, the files of the images in
    ``test/images.csv``, a scatter ``test/<dataset>.png`` for each data
    set. What other tests left there stays, but for rows of the same data set, split, condition and
    weights; see `lit_biqa.evaluation.store`. Loggers get ``test/<label>/<metric>`` and, as means
    over the data sets, ``test/plcc`` and ``test/srcc``, at the step of the weights; a `RunLogger`
    also gets the scatters, and the settings in ``config.yaml``.

    Args:
        bootstrap: resamples for the 95% intervals of a table; 0 for none.
        seed: of the resampling.

    Attributes:
        results: lines of the last test, on rank zero.
        weights: short digest of the weights of the last test.

    Raises:
        InputError: for negative numbers.
    """

    def __init__(self, bootstrap: int = 1000, seed: int = 0) -> None:
        check_range("report.bootstrap", bootstrap, 0)
        check_range("report.seed", seed, 0)
        self.bootstrap, self.seed = bootstrap, seed
        self.results: list[report.Result] = []
        self.weights = report.UNKNOWN
        self._rows: list[Prediction] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Read the files that a test will add to, before weights are read.

        Raises:
            InputError: if a file cannot be read, or no batch would be measured.
        """
        if stage in ("validate", "test"):
            refuse_none(trainer, stage)
        folder = _folder(trainer)
        if stage == "test" and (folder / RESULTS).exists():
            report.read_results(folder / RESULTS)
        if stage == "test" and (folder / PREDICTIONS).exists():
            store.read_predictions(folder / PREDICTIONS)
        if stage == "test" and (folder / IMAGES).exists():
            store.read_images(folder / IMAGES)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the settings of the run."""
        _log_settings(trainer)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop the rows of the previous epoch."""
        self._rows = []

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop the rows of a validation."""
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
        measured = [result for result in results if not result.is_mean]
        # A single set has no mean in a table, but the monitored name must always exist.
        logged = [*measured, *report.means(measured)]
        for tag, result in zip(_monitored(logged), logged, strict=True):
            for name in ("plcc", "srcc"):
                # Equal on every rank already; without sync_dist Lightning would warn.
                value = getattr(result.correlations, name)
                pl_module.log(f"{tag}/{name}", value, prog_bar=result.is_mean, sync_dist=True)
        if alone:
            pl_module.print(tables.table(results, "Validation"))

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the table before writing files, so that a full disk loses no result.

        Raises:
            InputError: if nothing was measured, or a file cannot be written.
        """
        rows = gather_rows(self._rows, report.identity)
        if not rows:
            raise InputError(
                "the test measured no row: its steps returned no predictions. Check "
                "model.readouts; no results were written."
            )
        self.weights = weights_of(pl_module)
        if not trainer.is_global_zero:
            return
        self.results = report.evaluate(rows, self.bootstrap, self.seed, self.weights)
        pl_module.print(tables.table(self.results, "Test"))
        folder = _folder(trainer)
        figures = self._figures(rows)
        cells = [store.cells_of(row, self.weights) for row in rows]
        with store.locked(folder):
            store.merge_predictions(folder / PREDICTIONS, cells, store.by_test)
            store.merge_images(folder / IMAGES, _images(trainer))
            before, after = store.merge_results(folder / RESULTS, self.results)
            try:
                rename(folder, before, after)
                save(folder, after, figures)
            except InputError as error:
                raise InputError(
                    f"{error} {folder / RESULTS} and {PREDICTIONS} hold this test already."
                ) from error
        self._log(trainer, figures, steps_of(pl_module, trainer))

    def _figures(self, all_rows: list[Prediction]) -> Figures:
        groups = report.grouped(all_rows)
        return {
            store.identity(result): scatter(rows, result)
            for result in self.results
            if (rows := groups.get((result.dataset, result.split, result.condition)))
        }

    def _log(self, trainer: pl.Trainer, figures: Figures, step: int) -> None:
        metrics, shown = _headlines(self.results), {}
        for label, result in zip(report.labels(self.results), self.results, strict=True):
            for name in report.METRICS:
                value = float(getattr(result.correlations, name))
                if math.isfinite(value) or name not in GroupFigures._fields:
                    metrics[f"test/{label}/{name}"] = value
            if figure := figures.get(store.identity(result)):
                shown[f"test/{label}"] = figure
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step)
            if isinstance(logger, RunLogger):
                logger.log_figures(shown, step)
        _log_settings(trainer)


def report_of(trainer: pl.Trainer) -> CorrelationReport | None:
    """The trainer's report of correlations; ``None`` if it has none."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return next((each for each in callbacks if isinstance(each, CorrelationReport)), None)


def tested_weights(trainer: pl.Trainer) -> str:
    """Digest of the weights of the last test, as `results.csv` names them."""
    tested = report_of(trainer)
    return tested.weights if tested else report.UNKNOWN


def _headlines(results: Sequence[report.Result]) -> dict[str, float]:
    """Means over the data sets, of scores read from images if there are any."""
    means = report.means([result for result in results if not result.is_derived])
    first = sorted(means, key=lambda mean: mean.condition != IMAGE)[0].correlations
    return {"test/plcc": first.plcc, "test/srcc": first.srcc}


def _log_settings(trainer: pl.Trainer) -> None:
    loggers = [logger for logger in trainer.loggers if isinstance(logger, RunLogger)]
    run = Path(trainer.default_root_dir)
    if loggers and trainer.is_global_zero and (run / "config.yaml").exists():
        loggers[0].log_settings(read_hyperparameters(run))


def _monitored(results: Sequence[report.Result]) -> list[str]:
    """Tags of a validation's scalars: ``val`` or ``val/<condition>`` for means.

    A data set's tag is ``val/<label>``, plus ``image`` if its name equals a condition's.
    """
    tags = [
        f"val{label.removeprefix(report.MEAN)}" if result.is_mean else f"val/{label}"
        for label, result in zip(report.labels(results), results, strict=True)
    ]
    means = {tag for tag, result in zip(tags, results, strict=True) if result.is_mean}
    return [
        tag if result.is_mean or tag not in means else f"{tag}/{result.condition}"
        for tag, result in zip(tags, results, strict=True)
    ]


def _images(trainer: pl.Trainer) -> list[dict[str, str]]:
    """Lines of `images.csv`; none where the data are not those of a `BIQADataModule`."""
    lines = [(*key[:2], str(key[2]), path) for key, path in places_of(trainer, "test").items()]
    return [dict(zip(store.IMAGE_COLUMNS, map(as_utf8, line), strict=True)) for line in lines]


def _folder(trainer: pl.Trainer) -> Path:
    return Path(trainer.default_root_dir) / "test"
