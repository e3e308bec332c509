"""A scorer file instead of a method, for ``test``, ``validate`` and ``predict``."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lit_biqa.methods.evaluation import Evaluator, image_predictions
from lit_biqa.scoring.scorer import load_scorer
from lit_biqa.types import Batch, Prediction


class PortableScorer(Evaluator):
    """Scores with the file that a RALI fit exports; it cannot be trained.

    Args:
        path: path of ``scorer.safetensors``.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.scorer = load_scorer(path)

    def setup(self, stage: str) -> None:
        """Set the scorer's transform; without training nothing is augmented."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        data.use_transforms(self._untouched, self.scorer.transform)

    def _untouched(self, image: Image.Image, generator: torch.Generator) -> Tensor:
        return self.scorer.transform(image)

    @torch.inference_mode()
    def predict(self, batch: Batch) -> list[Prediction]:
        """One row for each image."""
        return image_predictions(batch, self.scorer.score_pixels(batch["pixels"]))
