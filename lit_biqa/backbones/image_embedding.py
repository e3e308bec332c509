"""Image features, placed among token embeddings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from lit_biqa.backbones.image_feature_cache import ImageFeatureCache
from lit_biqa.backbones.inputs import Inputs
from lit_biqa.backbones.sharded import Sharded
from lit_biqa.backbones.transforms import Evaluate
from lit_biqa.backbones.tuning import SEEING, Part, Tuning
from lit_biqa.types import InputError


class ImageEmbedding(Sharded, ABC):
    """Embeds rows of tokens and images; a subclass provides the image tower.

    Args:
        tuning: trained parts, and how they are trained.
    """

    def __init__(self, tuning: Tuning) -> None:
        super().__init__(tuning)
        self._feature_cache: ImageFeatureCache | None = None

    @property
    @abstractmethod
    def image_transform(self) -> Evaluate:
        """Transform from an image to the pixels of a chat, for workers."""

    @abstractmethod
    def image_features(self, pixels: Sequence[Tensor]) -> Tensor:
        """Image features for the decoder: ``[positions of all images, D]``.

        Features that later layers take stand behind them, ``[positions of all images, (1 + K) D]``.
        """

    @property
    @abstractmethod
    def parts(self) -> dict[Part, list[nn.Module]]:
        """Modules of each part."""

    @property
    def token_embedding(self) -> nn.Embedding:
        """Token embedding, ``[V, D]``."""
        words: nn.Embedding = self.model.get_input_embeddings()
        return words

    def embed(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """Embed tokens, and images at their positions; without images the tower does not run.

        Returns:
            ``[B, L, D]``, or as wide as the image features, with zeros behind the embeddings of
            text; and ``[B, L]``, true at image positions; ``None`` if no rank has an image.

        Raises:
            InputError: with gradients, if only parts that see images are trained.
        """
        embeds: Tensor = self.token_embedding(inputs.ids)
        seen = [pixels for pixels in inputs.pixels if pixels is not None]
        if not self.anyone(bool(seen)):
            if torch.is_grad_enabled() and "language" not in self.tuning.parts:
                raise InputError(
                    "a batch of text alone trains nothing: add language to tuning.parts, or take "
                    "the texts without images out"
                )
            return embeds, None
        if not seen:
            # The other ranks wait for this rank's share of the tower, forward and backward.
            blank = self.image_transform(Image.new("RGB", (56, 56)))
            return embeds + 0 * self.image_features([blank.to(embeds.device)]).sum(), inputs.image
        if self._feature_cache is None:
            features = self.image_features(seen)
        else:
            widths = [width for width in inputs.image.sum(1).tolist() if width]
            features = self._feature_cache(seen, widths)
        embeds = F.pad(embeds, (0, features.shape[-1] - embeds.shape[-1]))
        places = inputs.image[..., None]
        return embeds.masked_scatter(places, features.to(embeds.dtype)), inputs.image

    @contextmanager
    def cache_image_features(self) -> Iterator[None]:
        """Within it what is made of an image is made once, for all that is asked about it.

        It does nothing where the parts that see images are trained, unless it begins without
        gradients, and where they are sharded: ranks would call them unequally often.
        """
        seeing = [module for part in SEEING for module in self.parts[part]]
        trained = any(weight.requires_grad for module in seeing for weight in module.parameters())
        if self.together is None and not (trained and torch.is_grad_enabled()):
            self._feature_cache = ImageFeatureCache(self.image_features)
        try:
            yield
        finally:
            self._feature_cache = None
