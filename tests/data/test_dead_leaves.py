from __future__ import annotations

import numpy as np
import pytest
from numpy.random import default_rng

from lit_biqa.data.dead_leaves import dead_leaves
from lit_biqa.data.distortions import Bytes, grey
from lit_biqa.data.pseudo_mos import measure

IMAGES = [dead_leaves(default_rng([0, i]), 128) for i in range(8)]


def spectral_slope(image: Bytes) -> float:
    """Slope of log power against log frequency, mean over directions, edges tapered away."""
    luma = grey(image)[..., 0].astype(float)
    side = len(luma)
    window = np.hanning(side)
    power = np.abs(np.fft.fft2((luma - luma.mean()) * window[:, None] * window)) ** 2
    frequency = np.fft.fftfreq(side, 1 / side)
    ring = np.hypot(frequency[:, None], frequency[None]).astype(int).ravel()
    radial = np.bincount(ring, power.ravel()) / np.bincount(ring)
    band = np.arange(4, 50)
    return float(np.polyfit(np.log(band), np.log(radial[band]), 1)[0])


def test_power_falls_about_with_the_square_of_frequency() -> None:
    slopes = [spectral_slope(image) for image in IMAGES]
    assert -3.0 < np.mean(slopes) < -1.8
    assert all(-3.6 < slope < -1.4 for slope in slopes)


def test_same_seed_same_image_other_seed_another() -> None:
    np.testing.assert_array_equal(dead_leaves(default_rng([0, 0]), 128), IMAGES[0])
    assert np.abs(IMAGES[0].astype(int) - IMAGES[1]).mean() > 20


def test_exposure_is_that_of_a_good_photograph() -> None:
    for image in IMAGES:
        luma = grey(image)
        assert 95 < luma.mean() < 150 and 40 < luma.std() < 65
        assert ((luma < 2) | (luma > 253)).mean() < 0.1


def test_gradients_are_heavy_tailed_as_at_occlusions() -> None:
    for image in IMAGES:
        gradient = np.diff(grey(image)[..., 0].astype(float), axis=1)
        kurtosis = np.mean(gradient**4) / np.mean(gradient**2) ** 2
        assert kurtosis > 4.5  # 3 if it were Gaussian noise of the same spectrum


def test_content_varies_from_image_to_image() -> None:
    contents = [measure(image) for image in IMAGES]
    assert max(c.colour for c in contents) - min(c.colour for c in contents) > 0.15
    assert max(c.detail for c in contents) - min(c.detail for c in contents) > 0.15


@pytest.mark.parametrize("size", [32, 65])
def test_any_size(size: int) -> None:
    assert dead_leaves(default_rng(1), size).shape == (size, size, 3)
