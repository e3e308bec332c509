"""Interface of backbones that embed images and texts in one space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lit_biqa.backbones.by_shape import by_shape
from lit_biqa.backbones.frozen import FrozenTower
from lit_biqa.backbones.transforms import Evaluate, Train

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class ImageTextEncoder(nn.Module, ABC):
    """Embeds images and texts in one space, for contrastive alignment.

    Building one is cheap: `load` makes or reads the weights, so that every other setting is
    checked first.

    Attributes:
        dim: dimensions D of the space, known before `load`.
        train_transform: from an image and a generator to pixels, with augmentation.
        eval_transform: from an image to the pixels that are scored.
    """

    dim: int
    train_transform: Train
    eval_transform: Evaluate

    @property
    @abstractmethod
    def loaded(self) -> bool:
        """True after `load`."""

    @abstractmethod
    def load(self) -> None:
        """Make the modules, read their weights and freeze those that are not trained.

        Raises:
            InputError: if the weights are missing or do not fit.
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
        """Modules that embed an image; a scorer file holds their weights."""

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """Repeated parts, each of which is sharded separately."""

    def forward(self, pixels: Tensor, texts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Image embeddings, text embeddings and scale, the inputs of alignment.

        Under FSDP, weights are whole only inside this call and `encode_images`.
        """
        return self.embed_images(pixels), self.embed_texts(texts), self.scale

    def encode_images(self, pixels: Tensor | Sequence[Tensor]) -> Tensor:
        """``[B, 3, H, W]``, or B images of several sizes, to ``[B, D]``, not normalised.

        It is the entry point for scoring.
        """
        return by_shape(self.embed_images, pixels)

    def frozen_network(self) -> FrozenTower | None:
        """Image network that is not trained, whose features replace pixels; ``None`` for none.

        `embed_images` then takes these features too.
        """
        return None

    def replicated(self) -> list[nn.Module]:
        """Frozen modules that every rank keeps whole, so that each may call them as it needs."""
        return []

    def shard(self, mesh: DeviceMesh, reshard_after_forward: bool = True) -> None:
        """Shard the parameters over a device mesh with FSDP2, block by block.

        Args:
            mesh: device mesh of one dimension.
            reshard_after_forward: see `lit_biqa.backbones.block_sharding.shard_blocks`.
        """
        # These imports take a second, which scoring a picture does not need.
        from torch.distributed.fsdp import register_fsdp_forward_method

        from lit_biqa.backbones.block_sharding import shard_blocks

        pieces = self.blocks(), self.replicated()
        shard_blocks(self, *pieces, mesh, reshard_after_forward=reshard_after_forward)
        register_fsdp_forward_method(self, "encode_images")

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """JSON settings from which `lit_biqa.scoring.scorer.load_scorer` makes the tower."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device
