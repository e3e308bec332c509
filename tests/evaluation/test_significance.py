"""The test of exchanges against scipy's, and Holm's correction against R's and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import pearsonr, permutation_test, rankdata, zscore

from lit_biqa.evaluation.significance import exchange_test, holm


def reference(x: np.ndarray, baseline: np.ndarray, y: np.ndarray) -> float:
    """The same test by scipy, which goes through all exchanges."""

    def difference(first: np.ndarray, second: np.ndarray) -> float:
        return float(pearsonr(first, y)[0] - pearsonr(second, y)[0])

    done = permutation_test(
        (zscore(x), zscore(baseline)),
        difference,
        permutation_type="samples",
        vectorized=False,
        n_resamples=np.inf,
    )
    return float(done.pvalue)


@pytest.mark.parametrize("seed", range(3))
def test_probabilities_are_those_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.uniform(1, 5, 10)
    x, baseline = y + rng.normal(0, 0.5, 10), 20 * y + 40 * rng.normal(0, 1, 10)  # another scale
    plcc, srcc = exchange_test(x, baseline, y, 20_000)
    assert plcc == pytest.approx(reference(x, baseline, y), abs=0.015)
    ranks = [rankdata(values) for values in (x, baseline, y)]
    assert srcc == pytest.approx(reference(*ranks), abs=0.015)


def test_without_a_difference_probabilities_are_uniform() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(200, 40))
    x, baseline = y + rng.normal(size=(200, 40)), y + rng.normal(size=(200, 40))
    found = np.array([exchange_test(*row, 200) for row in zip(x, baseline, y, strict=True)])
    # 5% of 200 are 10, with a deviation of 3
    assert ((found < 0.05).sum(axis=0) <= 20).all()
    assert found.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.07)


def test_the_smallest_probability_and_a_constant() -> None:
    y = np.arange(50.0)
    noise = np.random.default_rng(1).permutation(50).astype(float)
    assert exchange_test(y, noise, y, 99) == pytest.approx((0.01, 0.01))
    assert all(map(math.isnan, exchange_test(np.ones(50), noise, y, 99)))
    assert exchange_test(y, y, y, 99) == (1, 1)


@pytest.mark.parametrize(
    ("given", "adjusted"),
    [
        # R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),
        # by hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, then no less than that
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.6, 0.5], [1, 1]),
        ([0.04], [0.04]),
        ([], []),
    ],
)
def test_holm(given: list[float], adjusted: list[float]) -> None:
    assert holm(given) == pytest.approx(adjusted)


def test_a_test_that_says_nothing_does_not_count() -> None:
    first, nothing, last = holm([0.01, math.nan, 0.04])
    assert (first, last) == pytest.approx((0.02, 0.04))
    assert math.isnan(nothing)
