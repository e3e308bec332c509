"""A scorer as one module of tensors, with its preprocessing or without."""

from __future__ import annotations

from torch import Tensor, nn

from lit_biqa.backbones.tensor_transforms import TensorCrop
from lit_biqa.scoring.scorer import Scorer


class TensorScorer(nn.Module):
    """Scores of images or pixels of one shape, in operations of torch alone.

    Args:
        scorer: scorer whose tower and head are used.
        prepare: images to pixels, such as `TensorCrop`; ``None`` if pixels come transformed.
    """

    def __init__(self, scorer: Scorer, prepare: TensorCrop | None = None) -> None:
        super().__init__()
        self.prepare = nn.Identity() if prepare is None else prepare
        self.tower, self.head = scorer.tower, scorer.head

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W] -> [B]``, predicted MOS on [1, 5], 5 best."""
        scores: Tensor = self.head(self.tower(self.prepare(images)))
        return scores
