"""Pixels: those of open_clip for scoring, a seeded choice for training, at any shape of image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from lit_biqa.backbones.transforms import CLIP_MEAN, CLIP_STD, CentreCrop, Frame, RandomCrop
from lit_biqa.data.images import open_image
from lit_biqa.limits import IMAGE_PIXELS

SUFFIXES = {".jpg", ".png", ".bmp"}
Reference = Callable[[Image.Image], torch.Tensor]

# 480 x 720 at 336 is where a rounded ratio loses a row, at 3:2 the commonest shape of photographs
SHAPES = [(480, 720), (720, 480), (301, 333), (97, 211), (500, 31), (640, 640), (337, 336)]
FRAMES = [
    Frame(336),
    Frame(224, bicubic=False),
    Frame(256, "squash", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    Frame(160, "squash", bicubic=False),
]


def noise(width: int, height: int) -> Image.Image:
    """Image in which every difference in scaling and cropping is visible."""
    values = np.random.default_rng(width * height).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


def reference(frame: Frame) -> Reference:
    made: Reference = open_clip.image_transform(
        frame.size,
        is_train=False,
        mean=frame.mean,
        std=frame.std,
        resize_mode=frame.mode,
        interpolation="bicubic" if frame.bicubic else "bilinear",
    )
    return made


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: f"{frame.mode}-{frame.size}")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scoring_sees_what_open_clip_sees(frame: Frame, shape: tuple[int, int]) -> None:
    image = noise(*shape)
    torch.testing.assert_close(CentreCrop(frame)(image), reference(frame)(image))


@pytest.mark.parametrize("folder", ["KonIQ-10k/512x384", "KADID-10k", "TID2013", "SPAQ"])
def test_scoring_sees_what_open_clip_sees_of_real_images(shared: Path, folder: str) -> None:
    files = [p for p in (shared / "data" / folder).rglob("*") if p.suffix.lower() in SUFFIXES]
    assert files
    for file in files[:4]:
        image = open_image(file)
        frame = FRAMES[0]
        torch.testing.assert_close(CentreCrop(frame)(image), reference(frame)(image))


def test_one_pixel_is_normalised_as_by_hand() -> None:
    pixels = CentreCrop(Frame(4))(Image.new("RGB", (1, 1), (255, 0, 51)))
    assert pixels.shape == (3, 4, 4)
    expected = [
        (value - mean) / std
        for value, mean, std in zip((1.0, 0.0, 0.2), CLIP_MEAN, CLIP_STD, strict=True)
    ]
    torch.testing.assert_close(pixels[:, 2, 1], torch.tensor(expected))
    assert torch.equal(pixels, pixels[:, :1, :1].expand(3, 4, 4))


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (2, 3), (3000, 20)], ids=str)
@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_any_shape_becomes_a_square(shape: tuple[int, int], mode: str) -> None:
    frame = Frame(32, mode, margin=0.25)
    for pixels in (
        CentreCrop(frame)(noise(*shape)),
        RandomCrop(frame)(noise(*shape), torch.Generator().manual_seed(0)),
    ):
        assert pixels.shape == (3, 32, 32)
        assert pixels.dtype == torch.float32
        assert bool(pixels.isfinite().all())


def test_training_crops_follow_the_generator_and_nothing_else() -> None:
    crop, image = RandomCrop(Frame(64, margin=0.25)), noise(150, 100)

    def draw(seed: int) -> torch.Tensor:
        torch.rand(seed)  # what others draw from the global state must not matter
        return crop(image, torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    assert len({draw(seed).sum().item() for seed in range(8)}) == 8


def test_training_crops_reach_every_place_both_ways_round() -> None:
    # Columns count from 0: a crop of width 2 shows where it was taken and which way round.
    ramp = np.zeros((2, 6, 3), np.uint8)
    ramp[..., 0] = np.arange(6) * 10
    crop, generator = RandomCrop(Frame(2, mean=(0, 0, 0), std=(1, 1, 1))), torch.Generator()
    generator.manual_seed(0)
    rows = [crop(Image.fromarray(ramp), generator)[0, 0] * 25.5 for _ in range(200)]
    seen = {tuple(round(value) for value in row.tolist()) for row in rows}
    upright = {(n, n + 1) for n in range(5)}
    assert seen == upright | {(b, a) for a, b in upright}


@pytest.mark.parametrize("shape", [(12_000, 1), (1, 12_000)])
def test_a_line_of_pixels_takes_no_more_memory_than_an_image(shape: tuple[int, int]) -> None:
    frame = Frame(336)
    scaled = frame.scale(Image.new("RGB", shape, (255, 0, 51)))
    assert scaled.width * scaled.height <= IMAGE_PIXELS
    assert CentreCrop(frame)(Image.new("RGB", shape)).shape == (3, 336, 336)
