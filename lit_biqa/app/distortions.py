"""One picture under distortions of rising strength."""

from __future__ import annotations

import numpy as np
from PIL import Image

from lit_biqa.data.distortions import LEVELS, distort

KINDS = {"gaussian_blur": "blur", "white_noise": "noise", "jpeg": "JPEG"}
"""Distortions of the slider, with their names on the page."""
_SIDE = 512  # strengths are in pixels, and would not show in larger pictures


def scaled(image: Image.Image) -> Image.Image:
    """Copy whose longer side has at most 512 pixels."""
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return small


def levels_of(image: Image.Image, kind: str) -> list[Image.Image]:
    """The picture under a distortion at levels 1 to 5, always with the same random numbers."""
    pixels = np.asarray(image)
    return [
        Image.fromarray(distort(pixels, kind, level, np.random.default_rng(0)))
        for level in range(1, LEVELS + 1)
    ]
