"""Cache of image features, for as long as one image gets several chats."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class ImageFeatureCache:
    """Sees each image once, known by the very tensor of its pixels.

    Args:
        see: function of images to features ``[positions of all images, D]``.
    """

    def __init__(self, see: Callable[[Sequence[Tensor]], Tensor]) -> None:
        self._see = see
        # By identity, each with its pixels: an identity is unique only while its tensor lives.
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, images: Sequence[Tensor], widths: Sequence[int]) -> Tensor:
        """Features ``[positions of all images, D]``.

        Args:
            images: pixels.
            widths: number of positions of each image.
        """
        pairs = zip(images, widths, strict=True)
        new = {id(image): (image, width) for image, width in pairs if id(image) not in self._kept}
        if new:
            seen = self._see([image for image, _ in new.values()])
            parts = torch.split(seen, [width for _, width in new.values()])
            for (key, (image, _)), part in zip(new.items(), parts, strict=True):
                self._kept[key] = image, part
        return torch.cat([self._kept[id(image)][1] for image in images])
