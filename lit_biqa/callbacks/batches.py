"""Batches that an evaluation is limited to."""

from __future__ import annotations

import lightning.pytorch as pl

from lit_biqa.types import InputError

_LIMITS = {
    "validate": "limit_val_batches",
    "test": "limit_test_batches",
    "predict": "limit_predict_batches",
}


def refuse_none(trainer: pl.Trainer, stage: str) -> None:
    """Refuse an evaluation of no batch: Lightning passes over it, and calls that a success.

    Args:
        trainer: whose limit is looked at.
        stage: ``validate``, ``test`` or ``predict``.

    Raises:
        InputError: naming the limit.
    """
    name = _LIMITS[stage]
    if not getattr(trainer, name):
        raise InputError(
            f"trainer.{name} is 0, so nothing would be measured: give a number of batches, or "
            "leave it out for all."
        )
