"""Image tower of a language model: stages of a timm network by places, and as a whole."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_biqa.backbones.precision import Precision
from lit_biqa.backbones.stage_tower import (
    Standardise,
    channels,
    count_statistics,
    run_stages,
    statistics_of,
)

_STAGES = 4  # of the last stages, which the cells of the grid show


class GridTower(nn.Module):
    """Features of an image: those of each cell of a grid, and statistics of the whole image.

    A cell holds the mean of each of the last four stages over its area, and the deviation of the
    first three of these, in which distortions show.

    Example: ``tf_efficientnet_lite0`` with a grid of 4 gives 16 cells of 672 numbers and 3,584
    statistics, so 14,336 numbers an image.

    Args:
        network: network of ``timm.create_model`` that offers ``forward_intermediates``.
        grid: cells per side.
        precision: precision in which the network runs.
    """

    def __init__(self, network: nn.Module, grid: int, precision: Precision) -> None:
        super().__init__()
        self.network, self.grid, self.precision = network, grid, precision
        stages = channels(network)[:-1][-_STAGES:]
        self.cell = 2 * sum(stages) - stages[-1]
        self.whole = count_statistics(network)

    def train(self, mode: bool = True) -> GridTower:
        """Keep the running statistics of batch normalisation, whatever the mode."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """``[B, 3, H, W] -> [B, grid * grid * cell + whole]``."""
        stages = run_stages(self.network, pixels, self.precision)
        shown = [stage.float() for stage in stages[:-1][-_STAGES:]]
        cells = [F.adaptive_avg_pool2d(stage, self.grid) for stage in shown]
        for stage, mean in zip(shown[:-1], cells[: len(shown) - 1], strict=True):
            squares = F.adaptive_avg_pool2d(stage * stage, self.grid)
            cells.append((squares - mean * mean).clamp_min(0).sqrt())
        by_place = torch.cat(cells, 1).flatten(2).transpose(1, 2).flatten(1)
        return torch.cat([by_place, statistics_of(stages)], 1)


class GridProjector(nn.Module):
    """Features of `GridTower` to embeddings of a decoder: one for each cell, one for the whole.

    Args:
        grid: cells per side.
        cell: numbers of a cell.
        whole: numbers of the whole image.
        dim: width D of the decoder.
    """

    def __init__(self, grid: int, cell: int, whole: int, dim: int) -> None:
        super().__init__()
        self.cells, self.cell, self.whole = grid * grid, cell, whole
        self.standardise_cell, self.standardise_whole = Standardise(cell), Standardise(whole)
        self.project_cell, self.project_whole = nn.Linear(cell, dim), nn.Linear(whole, dim)

    @property
    def positions(self) -> int:
        """Number of embeddings of an image."""
        return self.cells + 1

    def split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, F]`` to ``[B, cells, cell]`` and ``[B, whole]``."""
        by_place, whole = torch.split(features, [self.cells * self.cell, self.whole], 1)
        return by_place.view(len(features), self.cells, self.cell), whole

    def observe(self, features: Tensor) -> None:
        """Take mean and deviation of each number from training images ``[N, F]``, once."""
        if self.standardise_cell.count == 0:
            by_place, whole = self.split(features.to(self.standardise_cell.mean.device))
            self.standardise_cell.add(by_place.flatten(0, 1))
            self.standardise_whole.add(whole)

    def forward(self, features: Tensor) -> Tensor:
        """``[B, F] -> [B, cells + 1, D]``."""
        by_place, whole = self.split(features)
        embedded = self.project_cell(self.standardise_cell.scaled(by_place))
        last = self.project_whole(self.standardise_whole.scaled(whole))
        return torch.cat([embedded, last[:, None]], 1)
