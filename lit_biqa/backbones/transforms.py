"""Transforms from an RGB image to pixels, for training and for scoring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lit_biqa.limits import IMAGE_PIXELS

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MODES = ("shortest", "floor", "squash", "native")


class Train(Protocol):
    """Training transform: image and generator to augmented pixels ``[3, H, W]``."""

    def __call__(self, image: Image.Image, generator: torch.Generator) -> Tensor:
        """Return pixels."""


class Evaluate(Protocol):
    """Evaluation transform: image to pixels ``[3, H, W]``."""

    def __call__(self, image: Image.Image) -> Tensor:
        """Return pixels."""


@dataclass(frozen=True)
class Frame:
    """Size, scaling and normalisation of the pixels that a backbone takes.

    Attributes:
        size: height and width in pixels.
        mode: ``shortest`` scales the shorter side and crops the centre, as in CLIP; ``floor`` does
            so and rounds half a pixel down where the centre lies between two, as transformers
            does and CLIP's own code does not; ``squash`` scales both sides, as in SigLIP;
            ``native`` crops nothing, and scales only an image whose shorter side has more pixels
            than ``size``.
        mean: mean of each channel, on [0, 1].
        std: standard deviation of each channel, on [0, 1].
        bicubic: true for bicubic, false for bilinear interpolation.
        margin: the image is scaled to ``1 + margin`` times the size of the crop. Without
            pretraining, training and scoring should use the same scale: scale changes sharpness.
    """

    size: int
    mode: str = "shortest"
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    bicubic: bool = True
    margin: float = 0.0

    def scale(self, image: Image.Image) -> Image.Image:
        """Scale the image so that the crop fits, with its margin.

        Of an image so narrow that it would grow beyond `IMAGE_PIXELS`, only the middle is used.
        """
        if self.mode != "squash":
            image = _middle(image, self.longest(*image.size))
        target = self.target(*image.size)
        kind = Image.Resampling.BICUBIC if self.bicubic else Image.Resampling.BILINEAR
        return image if image.size == target else image.resize(target, kind)

    def target(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that an image is scaled to.

        The sides may be symbols of ``torch.export`` but in mode ``native``, here and in `corner`.
        """
        if self.mode == "squash":
            size = self._scaled_side()
            return size, size
        size = self._scaled_side(width, height)
        shorter: int = torch.sym_min(width, height)  # type: ignore[no-untyped-call]
        # Integers: a rounded ratio would lose a row of 3:2 images compared with torchvision.
        return size * width // shorter, size * height // shorter

    def longest(self, width: int, height: int) -> int:
        """Most pixels of either side that are used before scaling; see `scale`."""
        ratio = IMAGE_PIXELS // self._scaled_side(width, height) ** 2
        return max(1, ratio) * min(width, height)

    def _scaled_side(self, *sides: int) -> int:
        """Shorter side after scaling."""
        size = round(self.size * (1 + self.margin))
        return min(size, *sides) if self.mode == "native" else size

    def corner(self, width: int, height: int) -> tuple[int, int]:
        """Left and top of the crop of a scaled image's centre.

        Rounds half a pixel to an even number, like torchvision's CenterCrop, so that published
        weights get the pixels they expect; in mode ``floor`` down.
        """
        left, top = ((side - self.size) // 2 for side in (width, height))
        if self.mode == "floor":
            return left, top
        odd = (width - self.size) % 2, (height - self.size) % 2
        return left + odd[0] * (left % 2), top + odd[1] * (top % 2)

    def tensor(self, image: Image.Image) -> Tensor:
        """Normalised pixels ``[3, H, W]`` in float32."""
        # A copy, because the array of an image is read-only, which torch does not support.
        values = torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1)
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return (values.float() / 255 - mean[:, None, None]) / std[:, None, None]


def _middle(image: Image.Image, longest: int) -> Image.Image:
    """Image with its longer side cut to ``longest`` pixels."""
    if max(image.size) <= longest:
        return image
    width, height = (min(side, longest) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


@dataclass(frozen=True)
class CentreCrop:
    """Crop of the centre; the whole image in a ``native`` frame."""

    frame: Frame

    def __call__(self, image: Image.Image) -> Tensor:
        """Pixels of the image's centre."""
        size = self.frame.size
        scaled = self.frame.scale(image)
        if self.frame.mode == "native":
            return self.frame.tensor(scaled)
        left, top = self.frame.corner(*scaled.size)
        return self.frame.tensor(scaled.crop((left, top, left + size, top + size)))


@dataclass(frozen=True)
class RandomCrop:
    """Crop at a random place, mirrored half of the time; neither changes quality."""

    frame: Frame

    def __call__(self, image: Image.Image, generator: torch.Generator) -> Tensor:
        """Pixels of a crop drawn with ``generator``."""
        size = self.frame.size
        scaled = self.frame.scale(image)
        draws = torch.rand(3, generator=generator).tolist()
        left, top = (
            int(draw * (side - size + 1)) for draw, side in zip(draws, scaled.size, strict=False)
        )
        crop = scaled.crop((left, top, left + size, top + size))
        if draws[2] < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return self.frame.tensor(crop)
