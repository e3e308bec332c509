"""The contract of backbones that embed images and texts in one space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lit_biqa.backbones.transforms import Evaluate, Train

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class ImageTextEncoder(nn.Module, ABC):
    """Embeds images and texts in one space, for contrastive alignment.

    Building one is cheap: weights are made or read by :meth:`load`, so that every other setting
    is checked before.

    Attributes:
        dim: dimensions D of the space, known before :meth:`load`.
        train_transform: from an image and a generator to pixels, with augmentation.
        eval_transform: from an image to the pixels that are scored.
    """

    dim: int
    train_transform: Train
    eval_transform: Evaluate

    @property
    @abstractmethod
    def loaded(self) -> bool:
        """Whether :meth:`load` has been called."""

    @abstractmethod
    def load(self) -> None:
        """Make the modules and read their weights; freeze what is not trained.

        Raises:
            InputError: if the weights cannot be found or do not fit.
        """

    @abstractmethod
    def embed_images(self, pixels: Tensor) -> Tensor:
        """``[B, 3, H, W] -> [B, D]``, not normalised."""

    @abstractmethod
    def embed_texts(self, texts: list[str]) -> Tensor:
        """B texts of any length to ``[B, D]``, not normalised."""

    @property
    @abstractmethod
    def scale(self) -> Tensor:
        """Inverse temperature of the contrastive softmax, positive, ``[1]``."""

    @property
    @abstractmethod
    def image_tower(self) -> nn.Module:
        """All that an image needs to be embedded; its weights are what a scorer ships."""

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The repeated parts, each of which is sharded by itself."""

    def forward(self, pixels: Tensor, texts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """What alignment trains on: image embeddings, text embeddings, scale.

        Under FSDP the weights are whole within this call and within :meth:`encode_images` only.
        """
        return self.embed_images(pixels), self.embed_texts(texts), self.scale

    def encode_images(self, pixels: Tensor) -> Tensor:
        """``[B, 3, H, W] -> [B, D]``, not normalised; the way in for scoring."""
        return self.embed_images(pixels)

    def shard(self, mesh: DeviceMesh) -> None:
        """Shard the parameters over a device mesh with FSDP2, block by block."""
        # A second of imports, which scoring a picture does not need.
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        for block in self.blocks():
            fully_shard(block, mesh=mesh)
        fully_shard(self, mesh=mesh)
        register_fsdp_forward_method(self, "encode_images")

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """JSON that :func:`lit_biqa.scoring.scorer.load_scorer` rebuilds the image tower from."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device
