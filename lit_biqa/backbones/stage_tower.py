"""An image tower of timm whose stages are pooled to statistics, for quality and not for classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_biqa.backbones.precision import Precision, dtype_of
from lit_biqa.distributed import all_gather
from lit_biqa.types import InputError

_CLAMP = 4.0  # deviations beyond which a standardised feature is cut


class StageTower(nn.Module):
    """A timm network, the mean and deviation of each of its stages, and a linear projection.

    Distortions show in early stages and content in late ones; a classifier's pooled head keeps
    the content alone. Each stage is scaled to unit length, so that none outweighs the others, and
    each number is standardised over the training images.

    Example: ``tf_efficientnet_lite0`` has five stages of 16, 24, 40, 112 and 320 channels and a
    head of 1,280, so 3,584 numbers an image, which become D.

    The network keeps the running statistics of its batch normalisation, whatever the mode:
    several processes then compute what one does.

    Args:
        network: of ``timm.create_model``; it must offer ``forward_intermediates``.
        dim: dimensions D of the embedding; ``None`` for the standardised statistics themselves.
        dropout: of the standardised numbers, in training.
        precision: in which the network runs; hardware that has bfloat16 is faster in it.
        stages: places of the stages that are used, the head being the last; ``None`` for all.

    Raises:
        InputError: if the network has no such stage.
    """

    def __init__(
        self,
        network: nn.Module,
        dim: int | None,
        dropout: float = 0.0,
        precision: Precision = "float32",
        stages: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.precision, self.stages = network, precision, stages
        features = count_statistics(network, stages)
        self.standardise = Standardise(features)
        self.project = nn.Sequential()
        if dim is not None:
            self.project.extend([nn.Dropout(dropout), nn.Linear(features, dim)])

    def train(self, mode: bool = True) -> StageTower:
        """Set the mode of the projection; the network stays in evaluation."""
        super().train(mode)
        self.network.eval()
        return self

    def freeze(self) -> None:
        """Freeze the network, and hold its weights in the precision that it runs in."""
        freeze(self.network, self.precision)
        self.standardise.follows = False

    def observe(self, statistics: Tensor) -> None:
        """Standardise by the statistics ``[N, F]`` of all training images, once."""
        if self.standardise.count == 0:
            self.standardise.add(statistics.to(self.standardise.mean.device))

    def statistics(self, pixels: Tensor) -> Tensor:
        """``[B, 3, H, W] -> [B, F]``: unit-length means and deviations of all stages."""
        return statistics_of(run_stages(self.network, pixels, self.precision, self.stages))

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels ``[B, 3, H, W]``, or their statistics ``[B, F]``, to ``[B, D]``."""
        statistics = pixels if pixels.ndim == 2 else self.statistics(pixels)
        embeddings: Tensor = self.project(self.standardise(statistics))
        return embeddings


class Standardise(nn.Module):
    """Features less their mean over all training rows so far, divided by their deviation.

    In training each batch, with those of all other processes, is first added to what mean and
    deviation are taken of; in evaluation they stay. Batch normalisation would use each batch by
    itself in training, and forget early ones.

    Args:
        features: F.

    Attributes:
        follows: add the rows of training; false where they were all added before.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.follows = True
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("squares", torch.zeros(features))

    @torch.no_grad()
    def add(self, rows: Tensor) -> None:
        """Add rows ``[B, F]`` to the mean and the sum of squared deviations (Chan et al., 1983)."""
        count = self.count + len(rows)
        mean = rows.mean(0)
        shift = mean - self.mean
        self.squares += ((rows - mean) ** 2).sum(0) + shift**2 * self.count * len(rows) / count
        self.mean += shift * len(rows) / count
        self.count.copy_(count)

    def forward(self, rows: Tensor) -> Tensor:
        """``[B, F] -> [B, F]``, cut at four deviations."""
        if self.training and self.follows:
            self.add(all_gather(rows.detach()))
        return self.scaled(rows)

    def scaled(self, rows: Tensor) -> Tensor:
        """``[..., F] -> [..., F]``, by the rows seen so far."""
        deviation = (self.squares / self.count.clamp(min=1)).sqrt()
        return ((rows - self.mean) / (deviation + 1e-6)).clamp(-_CLAMP, _CLAMP)


def freeze(network: nn.Module, precision: Precision) -> None:
    """Freeze a network, and hold its weights in the precision that it runs in."""
    network.requires_grad_(False).to(dtype_of(precision))


def run_stages(
    network: Any, pixels: Tensor, precision: Precision, stages: Sequence[int] | None = None
) -> list[Tensor]:
    """Maps ``[B, C, H, W]`` of stages of a network of timm; its head is the last.

    What lies behind the last stage of those named does not run.

    Args:
        network: of ``timm.create_model``.
        pixels: ``[B, 3, H, W]``.
        precision: in which the network runs.
        stages: places of the stages, in the order of the maps; ``None`` for all.
    """
    weights = next(network.parameters()).dtype
    # Convolutions are faster with channels last, but torch's group norm rounds away the variance of
    # flat images there.
    grouped = any(isinstance(module, nn.GroupNorm) for module in network.modules())
    layout = torch.contiguous_format if grouped else torch.channels_last
    pixels = pixels.to(weights).contiguous(memory_format=layout)
    # Weights that are trained stay in float32, and autocast rounds them in each step.
    mixed = weights == torch.float32 and dtype_of(precision) == torch.bfloat16
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=mixed):
        if stages is not None and len(network.feature_info) not in stages:
            early = {"stop_early": True, "intermediates_only": True}
            maps = network.forward_intermediates(pixels, indices=sorted(stages), **early)
            found = dict(zip(sorted(stages), maps, strict=True))
            return [found[place] for place in stages]
        last, maps = network.forward_intermediates(pixels)
    maps = [*maps, last]
    return maps if stages is None else [maps[place] for place in stages]


def statistics_of(stages: Sequence[Tensor]) -> Tensor:
    """Unit-length means and deviations of all stages, ``[B, F]``."""
    return torch.cat([_pooled(stage) for stage in stages], dim=1)


def count_statistics(network: Any, stages: Sequence[int] | None = None) -> int:
    """Number F of statistics of some stages of a network, or of all.

    Raises:
        InputError: if the network has no such stage, or a stage is named twice.
    """
    counts = channels(network)
    chosen = range(len(counts)) if stages is None else stages
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(len(counts))):
        raise InputError(
            f"stages={list(chosen)}: name each once, from 0 to {len(counts) - 1}, which is the head"
        )
    return 2 * sum(counts[place] for place in chosen)


def channels(network: Any) -> list[int]:
    """Channels of all stages and of the head."""
    return [*(int(stage["num_chs"]) for stage in network.feature_info), int(network.num_features)]


def _pooled(stage: Tensor) -> Tensor:
    """Mean and deviation over positions, ``[B, C, H, W] -> [B, 2C]``, of unit length."""
    stage = stage.to(torch.promote_types(stage.dtype, torch.float32))
    pooled = torch.cat([stage.mean((2, 3)), stage.std((2, 3), unbiased=False)], dim=1)
    return F.normalize(pooled, dim=1)


def create_network(architecture: str, folder: str | None = None) -> nn.Module:
    """A timm network without its classifier, with random weights or those of a folder.

    It is in evaluation mode, so that batch normalisation uses its running statistics.

    Args:
        architecture: name that timm knows.
        folder: of timm's form, with weights; random weights where it is ``None``.

    Raises:
        InputError: if timm knows no such network, or it gives no stages.
    """
    import timm

    # A name with a colon says where to fetch from: weights come from folders alone.
    if folder is None and architecture not in timm.list_models():
        raise InputError(f"timm has no network {architecture!r}")
    options: dict[str, Any] = {"pretrained": folder is not None, "num_classes": 0}
    name = architecture if folder is None else f"local-dir:{folder}"
    network: nn.Module = timm.create_model(name, **options)
    if not hasattr(network, "forward_intermediates"):
        raise InputError(f"{architecture} gives no stages: take another network of timm")
    return network.eval()
