"""Frozen image networks, whose features of an image are computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from lit_biqa.backbones.by_shape import by_shape
from lit_biqa.backbones.transforms import CentreCrop, Evaluate, Frame
from lit_biqa.io.digests import digest_of, digest_of_plain


@dataclass(frozen=True, eq=False)
class FrozenTower:
    """A frozen image network, as `lit_biqa.data.frozen_features` takes it.

    Attributes:
        network: the network.
        frame: frame of its pixels.
        extract: features of a batch of one shape, ``[B, 3, H, W] -> [B, ...]``.
        settings: all else that the features depend on, such as the precision.
        observe: called with the features of all training images, ``[N, ...]``, before a fit.
    """

    network: nn.Module
    frame: Frame
    extract: Callable[[Tensor], Tensor]
    settings: Mapping[str, Any]
    observe: Callable[[Tensor], None] = lambda features: None

    @property
    def transform(self) -> Evaluate:
        """From an image to pixels."""
        return CentreCrop(self.frame)

    @property
    def digest(self) -> str:
        """Digest of weights, frame and settings."""
        weights = digest_of(self.network.state_dict())
        return digest_of_plain([weights, asdict(self.frame), dict(self.settings)])

    def features(self, pixels: Sequence[Tensor]) -> Tensor:
        """B images ``[3, H, W]``, which may differ in size, to ``[B, ...]``."""
        # In training mode batch normalisation would change with the images beside it.
        self.network.to(pixels[0].device).eval()
        return by_shape(self.extract, pixels)
