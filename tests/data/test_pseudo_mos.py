from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.random import default_rng

from lit_biqa.data.distortions import DISTORTIONS
from lit_biqa.data.pseudo_mos import BEST, RATERS, Content, measure, quality, rate

PLAIN, BUSY = Content(0.0, 0.5), Content(1.0, 0.5)


def test_quality_by_hand() -> None:
    # White noise costs 3.3 at level 5, 15% more on plain and 15% less on busy content.
    assert quality("white_noise", 5, Content(0.5, 0.5)) == pytest.approx(4.85 - 3.3)
    assert quality("white_noise", 5, BUSY) == pytest.approx(4.85 - 3.3 * 0.85)
    assert quality("white_noise", 2, PLAIN) == pytest.approx(4.85 - 3.3 * 0.4 * 1.15)
    assert quality("darken", 5, PLAIN) == quality("darken", 5, BUSY) == pytest.approx(4.85 - 2.9)


def test_content_masks_noise_and_exposes_blur() -> None:
    assert quality("jpeg", 3, BUSY) > quality("jpeg", 3, PLAIN)
    assert quality("gaussian_blur", 3, BUSY) < quality("gaussian_blur", 3, PLAIN)


@pytest.mark.parametrize("kind", DISTORTIONS)
@pytest.mark.parametrize("content", [PLAIN, BUSY])
def test_quality_falls_with_every_level(kind: str, content: Content) -> None:
    found = [quality(kind, level, content) for level in range(6)]
    assert found[0] == BEST
    assert all(a > b for a, b in pairwise(found))
    assert found[-1] >= 1


def test_raters_scatter_about_the_quality_least_at_the_ends() -> None:
    middle = np.array([rate(3.0, default_rng(i)) for i in range(200)])
    end = np.array([rate(1.2, default_rng(i)) for i in range(200)])
    assert middle[:, 0].mean() == pytest.approx(3.0, abs=0.03)
    assert middle[:, 1].mean() == pytest.approx(0.7, abs=0.03)
    assert middle[:, 0].std() == pytest.approx(0.7 / RATERS**0.5, rel=0.2)
    assert end[:, 1].mean() < 0.5 and end[:, 0].min() >= 1


def test_measures_by_hand() -> None:
    flat = np.full((32, 32, 3), 90, dtype=np.uint8)
    assert measure(flat) == Content(0.0, 0.0)
    blue = flat.copy()
    blue[..., 2] = 140
    assert measure(blue).colour == 0.5
    assert measure(blue).detail == pytest.approx(0, abs=1e-3)
    checks = np.where(np.indices((64, 64)).sum(0) % 2, 255, 0).astype(np.uint8)
    assert measure(np.repeat(checks[..., None], 3, axis=2)).detail == 1.0
