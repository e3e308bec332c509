"""Pseudo-MOS of the synthetic data set: votes of simulated raters around a formula.

The quality of an image distorted by type ``t`` at level ``l`` of 5 is

    quality = BEST - loss_t * (l / 5) * (1 + CONTENT * (2 v - 1))

where ``loss_t`` is the type's loss at level 5 and ``v`` in [0, 1] is the visibility of the
distortion on the content: blur ruins busy content, noise stands out on plain content (visual
masking), over-saturation needs colour. Simulated raters vote around the quality and give MOS and
std. The formula and its numbers are this package's own, not fitted to any study.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from lit_biqa.data.distortions import DISTORTIONS, LEVELS, Bytes, grey

BEST = 4.85
CONTENT = 0.15
RATERS = 24


@dataclass(frozen=True)
class Content:
    """Properties of a pristine image that affect the visibility of distortions.

    Attributes:
        detail: local contrast, 0 plain to 1 busy.
        colour: saturation, 0 grey to 1 vivid.
    """

    detail: float
    colour: float


def measure(image: Bytes) -> Content:
    """Content of a pristine image ``[H, W, 3]``.

    Detail is the mean deviation of luma within 7 x 7 pixels, over 50 byte values; colour is the
    mean range of a pixel's channels, over 100 byte values; both are clipped at 1.
    """
    luma = grey(image)[..., 0]
    variance = ndimage.uniform_filter(luma**2, 7) - ndimage.uniform_filter(luma, 7) ** 2
    detail = float(np.sqrt(np.maximum(variance, 0)).mean()) / 50
    colour = float(np.ptp(image, axis=2).mean()) / 100
    return Content(min(detail, 1.0), min(colour, 1.0))


def quality(kind: str, level: int, content: Content) -> float:
    """Quality on [1, 5] by the formula above; ``BEST`` for level 0 of any type."""
    if level == 0:
        return BEST
    distortion = DISTORTIONS[kind]
    shown = {
        "detail": content.detail,
        "flatness": 1 - content.detail,
        "colour": content.colour,
        "any": 0.5,
    }[distortion.shown_by]
    lost = distortion.loss * level / LEVELS * (1 + CONTENT * (2 * shown - 1))
    return max(1.0, BEST - lost)


def rate(quality: float, rng: Generator) -> tuple[float, float]:
    """MOS on [1, 5] and standard deviation of single ratings by simulated raters.

    Ratings are normal about the quality with deviation 0.7 in the middle of the scale and 0.3 at
    its ends, where raters agree more (Hossfeld et al., "SOS: The MOS is not enough!", QoMEX
    2011), and are clipped to [1, 5].
    """
    deviation = 0.3 + 0.4 * (1 - ((quality - 3) / 2) ** 2)
    ratings = np.clip(rng.normal(quality, deviation, RATERS), 1, 5)
    return float(ratings.mean()), float(ratings.std(ddof=1))
