"""Words in common of the texts of a test and the references of its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from lit_biqa.callbacks.correlation import tested_weights
from lit_biqa.distributed import gather_rows
from lit_biqa.evaluation import store, tables
from lit_biqa.evaluation.conditions import Condition
from lit_biqa.evaluation.overlap import ReferencedText, identity, overlaps
from lit_biqa.types import Batch, TextPrediction


class OverlapReport(pl.Callback):
    """ROUGE-1 of what a model writes about test images against the texts that the data have.

    After a test of images with texts (`Sample.texts`), prints a table and adds to
    ``test/rouge.csv`` under the trainer's ``default_root_dir`` a line for each data set and
    condition: precision, recall and F, and a control with shuffled references. Completions about
    the image count, not those of a second pass. Without such texts there is neither table nor file.

    Source: *Guiding Perception-Reasoning Closer to Human*, whose headline is ROUGE-1; the control
    is ours.
    """

    def __init__(self) -> None:
        self._texts: list[ReferencedText] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Read the file that a test will add to, before weights are read.

        Raises:
            InputError: if the file cannot be read.
        """
        if stage == "test" and _file(trainer).exists():
            store.read_overlaps(_file(trainer))

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop the texts of an earlier test."""
        self._texts = []

    def on_test_batch_end(  # noqa: D102
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        rows = [row for row in outputs if isinstance(row, TextPrediction)]
        if not rows:
            return
        keys = zip(batch["dataset"], batch["split"], batch["index"].tolist(), strict=True)
        places = {key: row for row, key in enumerate(keys)}
        for row in rows:
            place = places[row.dataset, row.split, row.index]
            references = batch["samples"][place].texts
            readable = batch["status"][place] == "ok"
            if references and readable and not Condition.parse(row.condition).reads_text:
                where = (row.dataset, row.split, row.condition, row.index)
                self._texts.append(ReferencedText(*where, row.text, references))

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the table, then write the file.

        Raises:
            InputError: if the file cannot be written.
        """
        lines = overlaps(gather_rows(self._texts, identity))
        if not lines or not trainer.is_global_zero:
            return
        pl_module.print(tables.overlaps(lines))
        path = _file(trainer)
        with store.locked(path.parent):
            store.merge_overlaps(path, lines, tested_weights(trainer))


def _file(trainer: pl.Trainer) -> Path:
    return Path(trainer.default_root_dir) / "test" / "rouge.csv"
