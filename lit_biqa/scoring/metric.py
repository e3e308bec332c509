"""A scorer as a differentiable metric of image tensors, for training and evaluation loops.

Example:
    >>> metric = lit_biqa.metric("rali", scorer="runs/first")
    >>> loss = -metric(restored).mean()  # restored: [N, 3, H, W] on [0, 1]
    >>> loss.backward()
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from lit_biqa import limits
from lit_biqa.backbones.tensor_transforms import TensorCrop
from lit_biqa.scoring.scorer import Scorer, load_scorer
from lit_biqa.scoring.tensor_scorer import TensorScorer
from lit_biqa.types import InputError, nearest

METRICS = ("rali",)
_WEIGHTS = (torch.float32, torch.float64)
_ROUNDING = 1e-5  # by which a value may lie beyond [0, 1]


class ScorerMetric(nn.Module):
    """Predicted MOS of images, with gradients to the images.

    Images are scaled by torch in floats, where `Scorer` scales 8-bit images by Pillow, so that
    scores differ slightly. Weights are frozen and the module stays in evaluation mode; autocast
    around it is turned off.

    Args:
        scorer: scorer on its device.

    Attributes:
        lower_better: false: a higher score is a better image.
        score_range: least and greatest score.
    """

    lower_better = False
    score_range = (1.0, 5.0)

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        device = scorer.head.scores.device
        crop = TensorCrop(scorer.transform.frame).to(device)
        self.scorer = TensorScorer(scorer, crop).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> ScorerMetric:
        """Stay in evaluation mode, whatever the mode of the model around."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Score images of one size.

        Args:
            images: ``[N, 3, H, W]`` RGB floats on [0, 1], on the device of the metric, with at
                least 8 pixels on the shorter side.

        Returns:
            Predicted MOS ``[N, 1]`` on [1, 5], 5 best, in the type of the weights.

        Raises:
            InputError: for a wrong type, shape, range or device; prints none of the data.
        """
        self.check(images)
        with torch.autocast(images.device.type, enabled=False):
            scores: Tensor = self.scorer(images.to(self.scorer.head.scores.dtype))
        return scores[:, None]

    def check(self, images: object) -> None:
        """Refuse what `forward` refuses.

        Values are not looked at while torch compiles or exports the metric.

        Raises:
            InputError: as `forward`.
        """
        _check(images, self.scorer.head.scores)
        if not torch.compiler.is_compiling():
            assert isinstance(images, Tensor)
            _check_range(images)


def _check(images: object, weights: Tensor) -> None:
    """Refuse what is no batch of images."""
    if weights.dtype not in _WEIGHTS:
        raise InputError(f"the metric has weights of {_name(weights)}: call metric.float() first.")
    if not isinstance(images, Tensor):
        kind = type(images).__name__
        raise InputError(f"{kind} is no batch of images: give a tensor [N, 3, H, W] on [0, 1].")
    if images.layout is not torch.strided:
        raise InputError("images are a sparse tensor: call images.to_dense() first.")
    if not images.is_floating_point():
        raise InputError(f"images have values of {_name(images)}: give floats on [0, 1].")
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise InputError(f"images have the shape {list(images.shape)}: give [N, 3, H, W], N ≥ 1.")
    if min(images.shape[2:]) < limits.RATED_SIDE:
        size = f"{images.shape[3]} x {images.shape[2]}"
        raise InputError(
            f"images of {size} pixels are too small to rate: the shorter side needs "
            f"{limits.RATED_SIDE}."
        )
    if images.device != weights.device:
        raise InputError(
            f"images are on {images.device} and the metric on {weights.device}: move either."
        )


def _check_range(images: Tensor) -> None:
    """Refuse values beyond [0, 1] by more than rounding."""
    low, high = (float(end) for end in images.detach().aminmax())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # also nan
        raise InputError(
            f"images have values from {low:.6g} to {high:.6g}: give [0, 1], not normalised; "
            f"images.clamp(0, 1) cuts what lies beyond."
        )


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def create_metric(
    name: str, scorer: str | Path, device: str | torch.device | None = None
) -> ScorerMetric:
    """Metric of a name.

    Args:
        name: one of `METRICS`.
        scorer: scorer file that a fit of RALI wrote, or its run folder.
        device: device to score on; ``None`` takes CUDA if there is a GPU, else the CPU.

    Raises:
        InputError: if there is no such metric, scorer or device.
    """
    if name not in METRICS:
        raise InputError(f"there is no metric {name!r}{nearest(name, METRICS)}")
    return ScorerMetric(load_scorer(scorer, device))
