"""The file of scores that `predict` leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from lit_biqa import report
from lit_biqa.parallel import gather_rows
from lit_biqa.types import Prediction


class PredictionWriter(pl.Callback):
    """Write ``predictions.csv`` under the trainer's ``default_root_dir`` after `predict`.

    The method's ``predict_step`` returns ``list[Prediction]``, with a row for every image, those
    that could not be read among them: their ``status`` says why and their score is ``nan``. Rows
    come from all ranks, sorted by data set and index; the file is written whole or not at all.
    """

    def __init__(self) -> None:
        self._rows: list[Prediction] = []

    def on_predict_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the rows of a call before."""
        self._rows = []

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Keep the rows of a batch."""
        self._rows.extend(report.checked(outputs, "predict_step"))

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the rows of all ranks and say where they lie."""
        rows = gather_rows(self._rows, report.identity)
        if not trainer.is_global_zero:
            return
        path = Path(trainer.default_root_dir) / "predictions.csv"
        report.write_predictions(path, rows)
        failures = sum(report.failed(row) for row in rows)
        why = f", {failures} failed (column status says why)" if failures else ""
        pl_module.print(f"{len(rows) - failures} of {len(rows)} scored{why}: {path}")
