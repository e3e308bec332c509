"""The transform of scoring on tensors: differentiable, and part of exported programs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_biqa.backbones.transforms import Frame

_LEVELS = 255.0


class TensorCrop(nn.Module):
    """`CentreCrop` of a batch of tensors, scaled by torch with antialiasing.

    It scales the width and then the height, and cuts what bicubic interpolation overshoots after
    each, as Pillow does. Pillow also rounds to 8 bits after each: with ``rounds`` pixels are
    Pillow's, but for one level where a value lies between two, and but for images that Pillow
    scales by height first (narrow ones, from release 13 on). Without, they have gradients.

    Args:
        frame: size, scaling and normalisation.
        rounds: round to 8 bits as Pillow does, which leaves no gradient.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, frame: Frame, rounds: bool = False) -> None:
        super().__init__()
        self.frame, self.rounds = frame, rounds
        self.register_buffer("mean", torch.tensor(frame.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(frame.std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Pixels of one shape.

        Args:
            images: ``[B, 3, H, W]``, floats on [0, 1] or uint8 on 0 to 255.

        Returns:
            Normalised pixels ``[B, 3, h, w]``.
        """
        floats = images.is_floating_point()
        levels = images * _LEVELS if floats else images.to(self.mean.dtype)
        levels = self._crop(self._scale(self._middle(levels)))
        return (levels / _LEVELS - self.mean) / self.std

    def _middle(self, levels: Tensor) -> Tensor:
        """Middle of an image so narrow that it would grow too large; not in exported programs."""
        if self.frame.mode == "squash" or torch.compiler.is_exporting():
            return levels
        height, width = levels.shape[-2:]
        longest = self.frame.longest(width, height)
        rows, columns = min(height, longest), min(width, longest)
        left, top = (width - columns) // 2, (height - rows) // 2
        return levels[..., top : top + rows, left : left + columns]

    def _scale(self, levels: Tensor) -> Tensor:
        height, width = levels.shape[-2:]
        columns, rows = self.frame.target(width, height)
        return self._resized(self._resized(levels, (height, columns)), (rows, columns))

    def _resized(self, levels: Tensor, size: tuple[int, int]) -> Tensor:
        mode = "bicubic" if self.frame.bicubic else "bilinear"
        resized = F.interpolate(levels, size=size, mode=mode, antialias=True)
        resized = resized.clamp(0, _LEVELS)
        return resized.round() if self.rounds else resized

    def _crop(self, levels: Tensor) -> Tensor:
        if self.frame.mode == "native":
            return levels
        height, width = levels.shape[-2:]
        left, top = self.frame.corner(width, height)
        # A slice would tie an exported program to images that are wide, or to those that are tall.
        places = torch.arange(self.frame.size, device=levels.device)
        return levels.index_select(-2, places + top).index_select(-1, places + left)
