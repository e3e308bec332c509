"""Files of the images of an evaluation."""

from __future__ import annotations

import os

import lightning.pytorch as pl

from lit_biqa.data.datamodule import BIQADataModule


def places_of(trainer: pl.Trainer, stage: str) -> dict[tuple[str, str, int], str]:
    """Path of each image, by data set, split and index; also for a link that leads in a circle.

    `Path.resolve` would raise at such a link, and all other scores would be lost.

    Args:
        trainer: trainer of the evaluation; without a `BIQADataModule` no path is known.
        stage: ``test`` or ``predict``.
    """
    data: BIQADataModule | None = getattr(trainer, "datamodule", None)
    samples = data.samples.get(stage, []) if data is not None else []
    return {(s.dataset, s.split, s.index): os.path.realpath(s.path) for s in samples if s.path}
