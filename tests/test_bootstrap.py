"""Intervals against plain loops over scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lit_biqa.evaluation import bootstrap
from lit_biqa.evaluation.bootstrap import Array, bootstrap_intervals


def pairs(n: int, ties: bool) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 5, n)
    y = np.clip(x + rng.normal(0, 0.8, n), 1, 5)
    return (x.round(0), y.round(1)) if ties else (x, y)


@pytest.mark.parametrize("ties", [False, True])
def test_intervals_equal_a_plain_loop(ties: bool) -> None:
    x, y = pairs(30, ties)
    draws = np.random.default_rng(3).integers(30, size=(400, 30))
    loop = [(stats.pearsonr(x[d], y[d])[0], stats.spearmanr(x[d], y[d])[0]) for d in draws]
    low, high = np.percentile(loop, (2.5, 97.5), axis=0)
    expected = (low[0], high[0], low[1], high[1])
    assert bootstrap_intervals(x, y, 400, seed=3) == pytest.approx(expected, abs=1e-9)


def test_intervals_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = pairs(50, ties=True)
    whole = bootstrap_intervals(x, y, 300, seed=1)
    monkeypatch.setattr(bootstrap, "BLOCK", 7 * 50)
    assert bootstrap_intervals(x, y, 300, seed=1) == pytest.approx(whole, abs=1e-12)


def test_intervals_leave_out_constant_resamples() -> None:
    x, y = np.array([1.1, 2.3, 4.7]), np.array([1.3, 2.9, 3.1])
    ends = bootstrap_intervals(x, y, 500)
    assert all(-1 <= end <= 1 for end in ends)
    assert all(math.isnan(end) for end in bootstrap_intervals(x, np.array([2.1, 2.1, 2.1]), 20))


def test_interval_covers_the_true_correlation() -> None:
    # Bivariate normal of correlation 0.8: of 100 intervals about 95 must hold it.
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(100):
        x = rng.normal(size=150)
        y = 0.8 * x + 0.6 * rng.normal(size=150)
        low, high, *_ = bootstrap_intervals(x, y, 400, seed)
        hits += low <= 0.8 <= high
    assert 88 <= hits <= 100
