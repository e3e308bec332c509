"""The file of scores that `predict` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from lit_biqa.callbacks.batches import refuse_none
from lit_biqa.callbacks.places import places_of
from lit_biqa.callbacks.weights import weights_of
from lit_biqa.distributed import gather_rows
from lit_biqa.evaluation import report, store
from lit_biqa.io.files import as_utf8
from lit_biqa.types import Prediction

_NAMED = 10  # most files without a score named on the console


class PredictionWriter(pl.Callback):
    """Writes ``predictions.csv`` under the trainer's ``default_root_dir`` after `predict`.

    The method's ``predict_step`` returns ``list[Prediction]``, with a row for every image; an
    unreadable image has the score ``nan`` and its reason as ``status``. Rows come from all ranks,
    sorted by data set and index; the file is written whole or not at all. Existing rows of other
    images, conditions or weights stay: the last columns, ``path`` and ``weights``, distinguish
    them.
    """

    def __init__(self) -> None:
        self._rows: list[Prediction] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Read the file that rows will be added to, before weights are read.

        Raises:
            InputError: if the file cannot be read, or no batch would be scored.
        """
        if stage == "predict":
            refuse_none(trainer, stage)
        if stage == "predict" and _file(trainer).exists():
            store.read_predictions(_file(trainer))

    def on_predict_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop the rows of a previous call."""
        self._rows = []

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Keep the rows of a batch."""
        self._rows.extend(report.checked(outputs, "predict_step"))

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the rows of all ranks and print the path of the file.

        Raises:
            InputError: if the file cannot be written.
        """
        rows = gather_rows(self._rows, report.identity)
        weights = weights_of(pl_module)
        if not trainer.is_global_zero:
            return
        path, places = _file(trainer), places_of(trainer, "predict")
        cells = [
            store.cells_of(row, weights, path=places.get((row.dataset, row.split, row.index), ""))
            for row in rows
        ]
        with store.locked(path.parent):
            merge = store.merge_predictions(path, cells, store.by_image)
        pl_module.print("\n".join(_told(rows, path, merge)))


def _told(rows: Sequence[Prediction], path: Path, merge: store.Merge) -> list[str]:
    """Lines about images scored, images not scored with their reasons, and earlier rows."""
    failures = [row for row in rows if report.failed(row)]
    lines = [f"{len(rows) - len(failures)} of {len(rows)} scored: {path}"]
    if failures:
        lines.append(f"{len(failures)} not scored (column status of the file says why):")
        lines += [f"  {as_utf8(_reason(row))}" for row in failures[:_NAMED]]
        if len(failures) > _NAMED:
            lines.append(f"  and {len(failures) - _NAMED} more")
    if merge.replaced or merge.kept:
        lines.append(
            f"{path.name} existed: {merge.replaced} rows replaced, {merge.added} added, "
            f"{merge.kept} of other images or weights kept"
        )
    return lines


def _reason(row: Prediction) -> str:
    """File name and reason of a missing score."""
    status = row.status.removeprefix("unreadable: ") if row.status != "ok" else "no finite score"
    return status if row.name in status else f"{row.name}: {status}"


def _file(trainer: pl.Trainer) -> Path:
    return Path(trainer.default_root_dir) / "predictions.csv"
