"""Base of everything that predicts: methods that train, and scorers that only score."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor

from lit_biqa.types import Batch, Prediction


class Evaluator(LightningModule, ABC):
    """Predicts the MOS of images; every evaluation step returns the rows of its batch.

    Attributes:
        trained_steps: optimizer steps of the loaded weights.
    """

    trained_steps: int = 0

    @abstractmethod
    def predict(self, batch: Batch) -> list[Prediction]:
        """Rows of a batch: at least one for each image, also for one without a score."""

    def verdict(self) -> str:
        """Reason why a fit has learned nothing; empty if it has learned something."""
        return ""

    # Lightning declares mappings, but passes any return value of evaluation steps to callbacks.
    def validation_step(  # type: ignore[override]
        self, batch: Batch, batch_idx: int
    ) -> list[Prediction]:
        """A row for each image."""
        return self.predict(batch)

    def test_step(  # type: ignore[override]
        self, batch: Batch, batch_idx: int
    ) -> list[Prediction]:
        """A row for each image."""
        return self.predict(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> list[Prediction]:
        """A row for each image."""
        return self.predict(batch)


def identity(batch: Batch, row: int) -> dict[str, Any]:
    """Fields of a `Prediction` that say of which image a row of a batch is, and its MOS."""
    sample = batch["samples"][row]
    return {
        "dataset": batch["dataset"][row],
        "split": batch["split"][row],
        "index": int(batch["index"][row]),
        "name": batch["name"][row],
        "mos": float(batch["mos"][row]),
        "group": sample.group,
        "cluster": sample.cluster,
    }


def image_predictions(batch: Batch, scores: Tensor) -> list[Prediction]:
    """One row for each image; an unreadable image keeps its status and has no score.

    Args:
        batch: B images.
        scores: scores ``[B]`` on [1, 5].
    """
    return [
        Prediction(
            **identity(batch, row),
            score=score if batch["status"][row] == "ok" else math.nan,
            status=batch["status"][row],
        )
        for row, score in enumerate(scores.float().tolist())
    ]
