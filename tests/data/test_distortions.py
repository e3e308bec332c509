from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.random import default_rng
from PIL import Image, features

from lit_biqa.data.dead_leaves import dead_leaves
from lit_biqa.data.distortions import DISTORTIONS, LEVELS, LUMA, Bytes, distort, grey
from lit_biqa.types import InputError

SOURCES = [dead_leaves(default_rng([7, i]), 64) for i in range(3)]
MID_GREY = np.full((64, 64, 3), 128, dtype=np.uint8)


def psnr(image: Bytes, pristine: Bytes) -> float:
    error = np.mean((image.astype(float) - pristine) ** 2)
    return float(10 * np.log10(255**2 / error))


def test_there_are_ten_types_or_more_with_five_levels() -> None:
    assert len(DISTORTIONS) >= 10
    assert all(len(distortion.strengths) == LEVELS == 5 for distortion in DISTORTIONS.values())


@pytest.mark.parametrize("source", range(len(SOURCES)))
@pytest.mark.parametrize("kind", DISTORTIONS)
def test_each_level_is_further_from_the_pristine_image(kind: str, source: int) -> None:
    pristine = SOURCES[source]
    found = [psnr(distort(pristine, kind, n, default_rng(3)), pristine) for n in range(1, 6)]
    assert found == sorted(found, reverse=True)
    assert found[0] - found[-1] > 3


@pytest.mark.parametrize("kind", DISTORTIONS)
def test_form_is_kept_and_the_same_generator_gives_the_same_image(kind: str) -> None:
    image = SOURCES[0]
    first, again = (distort(image, kind, 3, default_rng(5)) for _ in range(2))
    assert first.shape == image.shape and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)


def test_level_zero_is_the_image_itself() -> None:
    assert distort(SOURCES[0], "jpeg", 0, default_rng(0)) is SOURCES[0]


def test_white_noise_has_the_deviation_it_claims() -> None:
    noisy = distort(MID_GREY, "white_noise", 3, default_rng(0)).astype(float)
    assert noisy.std() == pytest.approx(DISTORTIONS["white_noise"].strengths[2], rel=0.03)
    assert noisy.mean() == pytest.approx(128, abs=1)


def test_impulse_noise_turns_its_share_of_pixels_black_or_white() -> None:
    noisy = distort(MID_GREY, "impulse_noise", 5, default_rng(0))
    black, white = ((noisy == value).all(axis=2).mean() for value in (0, 255))
    assert black == pytest.approx(0.1, abs=0.02) and white == pytest.approx(0.1, abs=0.02)
    assert ((noisy == 128).all(axis=2)).mean() == pytest.approx(1 - black - white)


def test_motion_blur_spreads_along_one_line_and_keeps_the_sum() -> None:
    point = np.zeros((65, 65, 3), dtype=np.uint8)
    point[31:34, 31:34] = 255
    streak = distort(point, "motion_blur", 4, default_rng(1)).astype(float)[..., 0]
    rows, columns = np.nonzero(streak)
    spread = np.linalg.eigvalsh(np.cov(rows, columns))
    assert spread[1] > 5 * spread[0]
    assert streak.sum() == pytest.approx(9 * 255, rel=0.1)


def test_pixelation_at_level_five_leaves_blocks_of_eight() -> None:
    blocks = distort(SOURCES[0], "pixelation", 5, default_rng(0))
    mean = SOURCES[0].reshape(8, 8, 8, 8, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(blocks, np.repeat(np.repeat(blocks[::8, ::8], 8, 0), 8, 1))
    np.testing.assert_allclose(blocks[::8, ::8], mean, atol=1.01)  # rounded twice


def test_banding_leaves_as_many_values_as_it_claims() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    assert set(distort(ramp, "banding", 5, default_rng(0)).ravel()) == {0, 128, 255}


def test_contrast_loss_shrinks_the_deviation_about_the_mean() -> None:
    faded = distort(SOURCES[1], "contrast_loss", 5, default_rng(0)).astype(float)
    assert faded.mean() == pytest.approx(SOURCES[1].mean(), abs=0.5)
    assert faded.std() == pytest.approx(0.16 * SOURCES[1].std(), rel=0.03)


def test_colour_shift_leaves_luma_and_moves_one_channel_by_its_amount() -> None:
    tinted = distort(MID_GREY, "colour_shift", 3, default_rng(0))
    assert float(grey(tinted).mean()) == pytest.approx(128, abs=1)
    assert np.abs(tinted[0, 0].astype(int) - 128).max() == 50


def test_over_saturation_leaves_greys_alone_and_widens_colours() -> None:
    np.testing.assert_array_equal(distort(MID_GREY, "over_saturation", 5, default_rng(0)), MID_GREY)
    colour = np.array([[[120, 130, 140]]], dtype=np.uint8)
    vivid = distort(colour, "over_saturation", 1, default_rng(0)).astype(float)
    luma = float(colour[0, 0] @ LUMA)
    np.testing.assert_allclose(vivid[0, 0], luma + 1.4 * (colour[0, 0] - luma), atol=0.51)


def test_darken_and_brighten_move_the_mean_their_ways() -> None:
    assert distort(SOURCES[2], "darken", 2, default_rng(0)).mean() < SOURCES[2].mean() - 10
    assert distort(SOURCES[2], "brighten", 2, default_rng(0)).mean() > SOURCES[2].mean() + 10


def test_jpeg_equals_what_pillow_writes() -> None:
    stream = io.BytesIO()
    Image.fromarray(SOURCES[0]).save(stream, "JPEG", quality=30)
    expected = np.asarray(Image.open(stream).convert("RGB"))
    np.testing.assert_array_equal(distort(SOURCES[0], "jpeg", 1, default_rng(0)), expected)


@pytest.mark.skipif(not features.check("jpg_2000"), reason="Pillow without JPEG 2000")
def test_jpeg2000_is_coded_as_jpeg2000_at_its_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[bytes] = []
    opened = Image.open

    def spy(stream: io.BytesIO) -> Image.Image:
        streams.append(stream.getvalue())
        return opened(stream)

    monkeypatch.setattr(Image, "open", spy)
    distort(dead_leaves(default_rng(0), 128), "jpeg2000", 3, default_rng(0))
    assert streams[0][4:8] == b"jP  "
    assert 128 * 128 * 3 / len(streams[0]) == pytest.approx(30, rel=0.15)


def test_a_pillow_without_jpeg2000_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda feature: False)
    with pytest.raises(InputError, match="JPEG 2000"):
        distort(SOURCES[0], "jpeg2000", 1, default_rng(0))
