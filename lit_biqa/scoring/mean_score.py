"""Mean predicted MOS of all images of an evaluation, as a metric of torchmetrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_biqa.scoring.metric import ScorerMetric, create_metric
from lit_biqa.types import InputError


class MeanScore(Metric):
    """Mean score over images, batches and processes.

    Called with a batch, it returns the mean of that batch, with gradients to its images.

    Example:
        >>> mean_score = MeanScore("runs/first")
        >>> for images in loader:  # [N, 3, H, W] on [0, 1]
        ...     mean_score.update(images)
        >>> mean_score.compute()
        tensor(3.2107)

    Args:
        scorer: scorer file that a fit of RALI wrote, its run folder, or a metric that is shared.
        device: device to score on; ``None`` takes CUDA if there is a GPU, else the CPU. A metric
            that is shared has its own.
        settings: arguments of `torchmetrics.Metric`, such as ``sync_on_compute``.

    Raises:
        InputError: as `lit_biqa.metric`, or for a device beside a shared metric.
    """

    is_differentiable = True
    higher_is_better = True
    full_state_update = False
    plot_lower_bound, plot_upper_bound = ScorerMetric.score_range

    total: Tensor
    count: Tensor

    def __init__(
        self,
        scorer: str | Path | ScorerMetric,
        device: str | torch.device | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if not isinstance(scorer, ScorerMetric):
            scorer = create_metric("rali", scorer, device)
        elif device is not None:
            raise InputError(f"device={device} beside a metric that has its own: leave it out")
        self.metric = scorer
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        self.to(next(self.metric.buffers()).device)

    def forward(self, images: Tensor) -> Tensor:
        """Add a batch, and return its mean with gradients.

        Raises:
            InputError: as `ScorerMetric.forward`; what was added before stays.
        """
        # Metric.forward sets the sums aside before it adds a batch, and a refusal loses them.
        self.metric.check(images)
        mean: Tensor = super().forward(images)
        # A graph can be neither copied nor kept for long.
        self._forward_cache = mean.detach()  # type: ignore[assignment]
        return mean

    def update(self, images: Tensor) -> None:
        """Add a batch ``[N, 3, H, W]`` on [0, 1].

        Raises:
            InputError: as `ScorerMetric.forward`.
        """
        self.total = self.total + self.metric(images).double().sum()
        self.count = self.count + len(images)

    def compute(self) -> Tensor:
        """Mean of all scores, ``nan`` before the first batch."""
        return (self.total / self.count).float()

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw the mean, or given values, as other metrics of torchmetrics do."""
        return self._plot(val, ax)
