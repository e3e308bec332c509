"""A method of two numbers, for tests of what surrounds methods: score = a * brightness + b."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lit_biqa.methods.base import Method
from lit_biqa.methods.evaluation import image_predictions
from lit_biqa.types import Batch, Prediction


def brightness(image: Image.Image, _: random.Random | torch.Generator | None = None) -> Tensor:
    """One pixel, 0 to 1."""
    return torch.tensor(list(image.resize((1, 1)).convert("L").tobytes())) / 255


class Dummy(Method):
    """Learns to read the MOS from an image's brightness, with SGD where there is momentum."""

    def __init__(self, width: int = 1, lr: float = 0.1, momentum: float = 0.0) -> None:
        def optimizer(p: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
            sgd = momentum and torch.optim.SGD(p, lr, momentum)
            return sgd or torch.optim.Adam(p, lr)

        super().__init__(optimizer, 0.0, "none")
        self.width = width

    def setup(self, stage: str) -> None:
        self.trainer.datamodule.use_transforms(brightness, brightness)  # type: ignore[attr-defined]

    def load(self) -> None:
        self.layer = torch.nn.Linear(1, self.width)

    def shard(self) -> None:
        assert self.device_mesh is not None
        from torch.distributed.fsdp import fully_shard

        fully_shard(self.layer, mesh=self.device_mesh["data_parallel"])

    def score(self, batch: Batch) -> Tensor:
        scores: Tensor = self.layer(batch["pixels"]).mean(1)
        return scores

    def predict(self, batch: Batch) -> list[Prediction]:
        return image_predictions(batch, self.score(batch))

    def compute_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return (self.score(batch) - batch["mos"]).square().mean(), {}

    def ship(self, folder: Path, state: dict[str, Tensor]) -> None:
        (folder / "shipped.txt").write_text(" ".join(sorted(state)))


class Wide(Dummy):
    """Another architecture."""

    def __init__(self, width: int = 3) -> None:
        super().__init__(width)


class Fixed(Dummy):
    """Trains its slope alone."""

    def load(self) -> None:
        super().load()
        assert self.layer.bias is not None
        self.layer.bias.requires_grad_(False)
