"""Thirteen types of distortion, each at five levels.

A distortion maps a pristine image, a level from 1 (just visible) to 5 (severe) and a generator to
the distorted image. Strengths are in pixels and byte values, so they do not depend on the image
size. The types follow public data sets (LIVE, TID2013, KADID-10k); the strengths are this package's
own, chosen so that the loss grows steadily from level to level.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, features
from scipy import ndimage

from lit_biqa.types import InputError

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
LEVELS = 5
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class Distortion:
    """A type of distortion and its effect on the MOS.

    Attributes:
        apply: ``(image [H, W, 3], strength, rng) -> image [H, W, 3]``, both as bytes.
        strengths: one for each level.
        loss: MOS points lost at level 5 on content of average visibility; the lower levels lose
            in proportion.
        shown_by: content that makes it more visible: ``detail`` (busy content, which blur ruins),
            ``flatness`` (plain content, which does not mask noise), ``colour``, or ``any`` if
            content makes no difference.
    """

    apply: Callable[[Bytes, float, Generator], Bytes]
    strengths: tuple[float, float, float, float, float]
    loss: float
    shown_by: Literal["detail", "flatness", "colour", "any"]


def distort(image: Bytes, kind: str, level: int, rng: Generator) -> Bytes:
    """Distort an image.

    The same generator state gives the same noise field, direction or hue at every level.

    Args:
        image: ``[H, W, 3]`` RGB.
        kind: a key of `DISTORTIONS`.
        level: 1 to 5; 0 returns the image unchanged.
        rng: generator of the distortion's randomness.

    Raises:
        InputError: for JPEG 2000, if the installed Pillow cannot write it.
    """
    if level == 0:
        return image
    distortion = DISTORTIONS[kind]
    return distortion.apply(image, distortion.strengths[level - 1], rng)


def _bytes(values: NDArray[np.floating]) -> Bytes:
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)


def grey(image: Bytes) -> Floats:
    """Luma ``[H, W, 1]`` of an image, in byte values."""
    return np.asarray((image.astype(np.float32) @ LUMA)[..., None], dtype=np.float32)


def _gaussian_blur(image: Bytes, sigma: float, rng: Generator) -> Bytes:
    return _bytes(ndimage.gaussian_filter(image.astype(np.float32), (sigma, sigma, 0)))


def _motion_blur(image: Bytes, length: float, rng: Generator) -> Bytes:
    """Average along a line of ``length`` pixels in a random direction."""
    angle = rng.uniform(0, np.pi)
    half = int(np.ceil(length / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), dtype=np.float32)
    steps = np.linspace(-length / 2, length / 2, 8 * half + 1)
    rows, columns = half + steps * np.sin(angle), half + steps * np.cos(angle)
    np.add.at(kernel, (np.rint(rows).astype(int), np.rint(columns).astype(int)), 1 / len(steps))
    return _bytes(ndimage.convolve(image.astype(np.float32), kernel[..., None]))


def _white_noise(image: Bytes, deviation: float, rng: Generator) -> Bytes:
    return _bytes(image + deviation * rng.standard_normal(image.shape, dtype=np.float32))


def _impulse_noise(image: Bytes, share: float, rng: Generator) -> Bytes:
    """Replace a share of the pixels by black or white, in equal parts."""
    draw = rng.random(image.shape[:2])[..., None]
    salted = np.where(draw < share / 2, 0, image)
    return np.asarray(np.where(draw > 1 - share / 2, 255, salted), dtype=np.uint8)


def _coded(image: Bytes, form: str, **settings: object) -> Bytes:
    """Image after encoding and decoding in a file format of Pillow."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, form, **settings)
    stream.seek(0)
    return np.asarray(Image.open(stream).convert("RGB"))


def _jpeg(image: Bytes, quality: float, rng: Generator) -> Bytes:
    return _coded(image, "JPEG", quality=int(quality))


def _jpeg2000(image: Bytes, ratio: float, rng: Generator) -> Bytes:
    """Code at a compression ratio, with the irreversible (9/7) wavelet."""
    if not features.check("jpg_2000"):
        raise InputError(
            "this Pillow was built without JPEG 2000, which the synthetic data set needs: "
            "install Pillow's own wheel with `pip install --force-reinstall pillow`."
        )
    return _coded(
        image, "JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True
    )


def _contrast_loss(image: Bytes, factor: float, rng: Generator) -> Bytes:
    mean = image.mean()
    return _bytes(mean + factor * (image.astype(np.float32) - mean))


def _over_saturation(image: Bytes, gain: float, rng: Generator) -> Bytes:
    """Scale each pixel's difference from its grey."""
    luma = grey(image)
    return _bytes(luma + gain * (image - luma))


def _colour_shift(image: Bytes, amount: float, rng: Generator) -> Bytes:
    """Add a cast of a random hue, ``amount`` byte values strong, without changing luma."""
    hue = rng.uniform(0, 2 * np.pi) + np.array([0, 2, 4], dtype=np.float32) * np.pi / 3
    cast = np.cos(hue) - np.cos(hue) @ LUMA
    return _bytes(image + amount * cast / np.abs(cast).max())


def _banding(image: Bytes, steps: float, rng: Generator) -> Bytes:
    """Round each channel to ``steps`` evenly spaced values."""
    width = 255 / (steps - 1)
    return _bytes(np.rint(image / width) * width)


def _pixelation(image: Bytes, factor: float, rng: Generator) -> Bytes:
    """Reduce by averaging and enlarge by repeating pixels, ``factor`` times on each side."""
    height, width = image.shape[:2]
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    reduced = Image.fromarray(image).resize(small, Image.Resampling.BOX)
    return np.asarray(reduced.resize((width, height), Image.Resampling.NEAREST))


def _darken(image: Bytes, gamma: float, rng: Generator) -> Bytes:
    return _bytes(255 * (image / np.float32(255)) ** np.float32(gamma))


def _brighten(image: Bytes, gamma: float, rng: Generator) -> Bytes:
    """Lift with a gamma curve and overexpose: the brightest parts burn out."""
    return _bytes(255 * gamma**0.3 * (image / np.float32(255)) ** np.float32(1 / gamma))


DISTORTIONS: dict[str, Distortion] = {
    "gaussian_blur": Distortion(_gaussian_blur, (0.7, 1.1, 1.6, 2.3, 3.5), 3.6, "detail"),
    "motion_blur": Distortion(_motion_blur, (3, 5, 8, 12, 18), 3.4, "detail"),
    "white_noise": Distortion(_white_noise, (7, 14, 24, 38, 60), 3.3, "flatness"),
    "impulse_noise": Distortion(_impulse_noise, (0.005, 0.02, 0.05, 0.1, 0.2), 3.6, "flatness"),
    "jpeg": Distortion(_jpeg, (30, 16, 9, 5, 3), 3.3, "flatness"),
    "jpeg2000": Distortion(_jpeg2000, (10, 18, 30, 50, 90), 3.5, "detail"),
    "contrast_loss": Distortion(_contrast_loss, (0.75, 0.57, 0.42, 0.28, 0.16), 2.9, "any"),
    "over_saturation": Distortion(_over_saturation, (1.4, 1.9, 2.5, 3.3, 4.5), 2.4, "colour"),
    "colour_shift": Distortion(_colour_shift, (16, 32, 50, 72, 100), 2.6, "any"),
    "banding": Distortion(_banding, (12, 8, 6, 4, 3), 2.8, "flatness"),
    "pixelation": Distortion(_pixelation, (1.6, 2.3, 3.4, 5, 8), 3.7, "detail"),
    "darken": Distortion(_darken, (1.3, 1.65, 2.1, 2.7, 3.6), 2.9, "any"),
    "brighten": Distortion(_brighten, (1.15, 1.35, 1.6, 1.95, 2.4), 2.7, "any"),
}
