"""Dead-leaves images from a seed: textured, shaded shapes with the statistics of natural images.

Opaque shapes of power-law sizes fall on each other until they cover the ground. Such images have
occlusion edges, are about scale-invariant, and their power spectrum falls about as ``1 / f^2``,
like that of photographs (Lee, Mumford and Huang, "Occlusion models for natural images", IJCV 2001).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lit_biqa.data.distortions import LUMA, Bytes, Floats

OVERSAMPLING = 2
SMALLEST = (1.2, 7.0)  # radius of the smallest leaf in pixels; each image draws its own
LARGEST = 0.6  # radius of the largest as a share of the image's side
COVERAGE = 3.0  # summed area of the leaves over that of the image
MARGIN = 1.25  # a leaf's shadow reaches this far, in radii
ROUNDNESS = (1.3, 2, 2, 2.5, 6)  # exponents of superellipses: 1 is a diamond, 2 an ellipse
TEXTURES = (0.02, 0.08, 0.2)  # deviation of a surface's relative brightness


def dead_leaves(rng: Generator, size: int) -> Bytes:
    """Generate one pristine image.

    Args:
        rng: generator of all randomness.
        size: side in pixels.

    Returns:
        ``[size, size, 3]`` RGB.
    """
    side = size * OVERSAMPLING
    palette = _palette(rng)
    scene = _Scene(
        canvas=_ground(rng, palette, side),
        palette=palette,
        zones=_field(rng, side, slope=2),
        grain=np.tile(_field(rng, side, slope=1), (2, 2)),
        light=rng.uniform(0, 2 * math.pi),
    )
    for radius in _radii(rng, side):
        scene.lay(rng, float(radius))
    image = scene.canvas.reshape(size, OVERSAMPLING, size, OVERSAMPLING, 3).mean(axis=(1, 3))
    return _expose(rng, image * (1 + 0.15 * _field(rng, size, slope=2.5)[..., None]))


def _radii(rng: Generator, side: int) -> Floats:
    """Radii in canvas pixels with density ``r^-3``, enough of them to cover the canvas."""
    low = float(np.exp(rng.uniform(*np.log(SMALLEST)))) * OVERSAMPLING
    high = LARGEST * side
    mean_area = 2 * np.pi * np.log(high / low) / (low**-2 - high**-2)
    uniform = rng.random(int(COVERAGE * side**2 / mean_area) + 1)
    return np.asarray((low**-2 + uniform * (high**-2 - low**-2)) ** -0.5, dtype=np.float32)


def _field(rng: Generator, side: int, slope: float) -> Floats:
    """Random field ``[side, side]``, mean 0 and deviation 1, of amplitude spectrum ``f^-slope``."""
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    radius = np.hypot(fx, fy)
    radius[0, 0] = np.inf
    noise = np.fft.rfft2(rng.standard_normal((side, side)))
    field = np.fft.irfft2(noise * radius**-slope, s=(side, side))
    return np.asarray(field / field.std(), dtype=np.float32)


def _palette(rng: Generator) -> Floats:
    """Eight related colours ``[8, 3]`` in [0, 1]: neighbouring hues and their opposite."""
    hues = rng.uniform(0, 1) + rng.normal(0, 0.06, 8) + 0.5 * (rng.random(8) < rng.uniform(0, 0.5))
    saturation = np.clip(rng.beta(2, 4) + rng.normal(0, 0.12, 8), 0.03, 0.7)
    value = np.linspace(0.12, 0.95, 8) + rng.normal(0, 0.05, 8)
    # Hue, saturation and value to RGB, by the usual piecewise-linear formula.
    k = (np.array([5, 3, 1]) + hues[:, None] * 6) % 6
    chroma = np.clip(np.minimum(k, 4 - k), 0, 1)
    return np.asarray(value[:, None] * (1 - saturation[:, None] * chroma), dtype=np.float32)


def _ground(rng: Generator, palette: Floats, side: int) -> Floats:
    """Smooth gradient between two colours of the palette, ``[side, side, 3]``."""
    first, second = palette[rng.choice(len(palette), 2, replace=False)]
    mix = 1 / (1 + np.exp(-_field(rng, side, slope=2.5)))[..., None]
    return np.asarray(first * mix + second * (1 - mix), dtype=np.float32)


@dataclass(frozen=True)
class _Scene:
    """State that the leaves of one image share.

    Attributes:
        canvas: painting so far, ``[side, side, 3]``; changed in place.
        palette: colours from dark to bright, ``[8, 3]``.
        zones: field of brightness in which bright colours cluster, ``[side, side]``.
        grain: rough texture, ``[2 * side, 2 * side]``, periodic.
        light: direction of the light, in radians.
    """

    canvas: Floats
    palette: Floats
    zones: Floats
    grain: Floats
    light: float

    def lay(self, rng: Generator, radius: float) -> None:
        """Paint one leaf of this radius, and its shadow, at a random place."""
        side = len(self.canvas)
        centre = rng.uniform(-radius / 2, side + radius / 2, 2)
        low = np.clip(np.floor(centre - MARGIN * radius), 0, side).astype(int)
        high = np.clip(np.ceil(centre + MARGIN * radius) + 1, 0, side).astype(int)
        y = ((np.arange(low[0], high[0])[:, None] - centre[0]) / radius).astype(np.float32)
        x = ((np.arange(low[1], high[1])[None] - centre[1]) / radius).astype(np.float32)
        along, distance = _outline(rng, x, y)
        shade = self._shade(rng, x, y, np.minimum(distance, 1))
        shade += self._texture(rng, along, radius)
        under = self.canvas[low[0] : high[0], low[1] : high[1]]
        shadow = 1 - 0.45 * np.clip((MARGIN - distance) / (MARGIN - 1), 0, 1)
        painted = self._colour(rng, centre) * shade[..., None]
        under[:] = np.where((distance < 1)[..., None], painted, under * shadow[..., None])

    def _colour(self, rng: Generator, centre: NDArray[np.float64]) -> Floats:
        zone = self.zones[tuple(np.clip(centre, 0, len(self.zones) - 1).astype(int))]
        rank = np.clip(3.5 + 1.6 * zone + rng.normal(0, 1.5), 0, len(self.palette) - 1)
        tint = rng.lognormal(0, 0.08, 3)
        return np.asarray(self.palette[int(rank)] * tint, dtype=np.float32)

    def _shade(self, rng: Generator, x: Floats, y: Floats, distance: Floats) -> Floats:
        """Brightness over the leaf: brighter toward the light, darker toward its edge."""
        slant = rng.uniform(0, 0.45)
        towards = slant * math.cos(self.light) * x + slant * math.sin(self.light) * y
        return np.asarray(1 + towards - rng.uniform(0, 0.3) * distance**2, dtype=np.float32)

    def _texture(self, rng: Generator, along: Floats, radius: float) -> Floats:
        """Brightness differences over the leaf's surface: stripes, grain or almost none."""
        strength = float(rng.choice(TEXTURES))
        if rng.random() < 0.2 and radius > 8:
            surface = np.sin(rng.uniform(2, radius / 3) * math.pi * along)
        else:
            top, left = rng.integers(len(self.zones), size=2)
            surface = self.grain[top : top + along.shape[0], left : left + along.shape[1]]
        return np.asarray(strength * surface, dtype=np.float32)


def _outline(rng: Generator, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Coordinate along the leaf, and distance from its centre where its edge lies at 1."""
    angle, aspect = rng.uniform(0, math.pi), rng.uniform(0.45, 1)
    along = math.cos(angle) * x + math.sin(angle) * y
    beside = math.cos(angle) / aspect * y - math.sin(angle) / aspect * x
    power = float(rng.choice(ROUNDNESS))
    distance = (np.abs(along) ** power + np.abs(beside) ** power) ** (1 / power)
    if rng.random() < 0.4:
        lobes = int(rng.integers(3, 8)) * np.arctan2(beside, along)
        distance = distance * (1 + rng.uniform(0.05, 0.2) * np.cos(lobes))
    return along, np.asarray(distance, dtype=np.float32)


def _expose(rng: Generator, image: Floats) -> Bytes:
    """Set brightness and contrast to those of a well exposed photograph, and round to bytes."""
    luma = image @ LUMA
    mean, deviation = rng.uniform(0.42, 0.52), rng.uniform(0.19, 0.24)
    exposed = (image - luma.mean()) * (deviation / luma.std()) + mean
    return np.asarray(np.clip(np.rint(exposed * 255), 0, 255), dtype=np.uint8)
