"""Limits on the batches of an evaluation."""

from __future__ import annotations

import lightning.pytorch as pl

from lit_biqa.types import InputError

_LIMITS = {
    "validate": "limit_val_batches",
    "test": "limit_test_batches",
    "predict": "limit_predict_batches",
}


def refuse_none(trainer: pl.Trainer, stage: str) -> None:
    """Refuse an evaluation without batches: Lightning would skip it and report success.

    Args:
        trainer: trainer with the limit.
        stage: ``validate``, ``test`` or ``predict``.

    Raises:
        InputError: names the limit.
    """
    name = _LIMITS[stage]
    if not getattr(trainer, name):
        raise InputError(
            f"trainer.{name} is 0, so nothing would be measured: give a number of batches, or "
            "leave it out for all batches."
        )
