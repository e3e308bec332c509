"""Images scaled as tensors are those that Pillow scales, but for its rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_scorers import real_images
from torch import Tensor

from lit_biqa.backbones.tensor_transforms import TensorCrop
from lit_biqa.backbones.transforms import CentreCrop, Frame

FRAMES = [
    Frame(64),
    Frame(61, "floor"),
    Frame(64, "squash", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), bicubic=False),
    Frame(80, "native"),
    Frame(48, margin=0.3),
]


def noise(height: int, width: int) -> Image.Image:
    values = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def as_batch(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]


def levels_apart(frame: Frame, one: Tensor, other: Tensor) -> Tensor:
    """Differences of normalised pixels in levels of 8 bits."""
    assert one.shape == other.shape
    return (one - other).abs() * 255 * torch.tensor(frame.std)[:, None, None]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: f"{frame.mode}-{frame.size}")
def test_real_images_are_within_rounding_of_pillows(frame: Frame, shared: Path) -> None:
    for image in real_images(shared, 6):
        expected = CentreCrop(frame)(image)
        batch = as_batch(image)
        apart = levels_apart(frame, TensorCrop(frame)(batch / 255)[0], expected)
        assert apart.max() < 1.5 and apart.mean() < 0.35
        rounded = levels_apart(frame, TensorCrop(frame, rounds=True)(batch)[0], expected)
        assert rounded.max() < 1.01 and (rounded > 0.5).double().mean() < 0.02


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: f"{frame.mode}-{frame.size}")
@pytest.mark.parametrize("shape", [(64, 64), (30, 47), (97, 65), (300, 66), (9, 200)], ids=str)
def test_any_shape_has_pillows_size_and_place(frame: Frame, shape: tuple[int, int]) -> None:
    """A crop that is off by a pixel is off by many levels in noise."""
    image = noise(*shape)
    apart = levels_apart(frame, TensorCrop(frame)(as_batch(image))[0], CentreCrop(frame)(image))
    assert apart.mean() < 0.5


def test_of_a_line_of_pixels_the_middle_is_used() -> None:
    image = Image.new("RGB", (12_000, 1), (255, 0, 51))
    frame = Frame(336)
    expected = CentreCrop(frame)(image)
    torch.testing.assert_close(TensorCrop(frame)(as_batch(image))[0], expected)


def test_types_agree() -> None:
    batch, crop = as_batch(noise(90, 70)), TensorCrop(FRAMES[0])
    pixels = crop(batch)
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(crop(batch / 255), pixels, atol=1e-4, rtol=0)
    doubled = crop(batch.double() / 255)
    assert doubled.dtype == torch.float64
    torch.testing.assert_close(doubled.float(), pixels, atol=1e-4, rtol=0)
