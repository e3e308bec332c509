"""Intervals against plain loops over scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lit_biqa.evaluation import bootstrap
from lit_biqa.evaluation.bootstrap import Array, bootstrap_intervals, cluster_codes


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


def clustered(seed: int = 0) -> tuple[Array, Array, list[str]]:
    """Eight clusters of 2 to 9 images; score and MOS share an offset in each."""
    rng = np.random.default_rng(seed)
    names = [f"c{cluster}" for cluster in range(8) for _ in range(2 + cluster)]
    offsets = {name: rng.normal(0, 1) for name in sorted(set(names))}
    y = np.array([offsets[name] for name in names]) + rng.normal(0, 0.4, len(names))
    return y + rng.normal(0, 0.7, len(names)), y, names


def of_clusters(drawn: Array, names: list[str]) -> list[int]:
    """Rows of drawn clusters, each as often as it was drawn."""
    return [row for c in drawn for row, name in enumerate(names) if name == f"c{int(c)}"]


def test_clusters_are_drawn_whole() -> None:
    """Against a plain loop over the same draws, with ties."""
    x, y, names = clustered()
    x, y = x.round(0), y.round(1)
    draws = np.random.default_rng(5).integers(8, size=(300, 8))
    rows = [of_clusters(draw, names) for draw in draws]
    assert {len(r) for r in rows} != {len(names)}, "resamples differ in their number of images"
    loop = [(stats.pearsonr(x[r], y[r])[0], stats.spearmanr(x[r], y[r])[0]) for r in rows]
    low, high = np.percentile(loop, (2.5, 97.5), axis=0)
    found = bootstrap_intervals(x, y, 300, 5, cluster_codes(names))
    assert found == pytest.approx((low[0], high[0], low[1], high[1]), abs=1e-9)


def test_the_cluster_bootstrap_is_that_of_scipy() -> None:
    x, y, names = clustered()
    found = bootstrap_intervals(x, y, 8000, 1, cluster_codes(names))
    for ends, statistic in ((found[:2], stats.pearsonr), (found[2:], stats.spearmanr)):

        def agreement(drawn: Array, of: object = statistic) -> float:
            rows = of_clusters(drawn, names)
            return float(of(x[rows], y[rows])[0])  # type: ignore[operator]

        reference = stats.bootstrap(
            (np.arange(8),),
            agreement,
            vectorized=False,
            n_resamples=4000,
            method="percentile",
            random_state=2,
        ).confidence_interval
        assert ends == pytest.approx((reference.low, reference.high), abs=0.02)


def test_clusters_of_like_images_widen_an_interval() -> None:
    x, y, names = clustered()
    rows = bootstrap_intervals(x, y, 2000)
    clusters = bootstrap_intervals(x, y, 2000, clusters=cluster_codes(names))
    assert clusters[1] - clusters[0] > 1.2 * (rows[1] - rows[0])
    alone = cluster_codes([f"{row:03d}" for row in range(len(x))])
    assert bootstrap_intervals(x, y, 200, clusters=alone) == bootstrap_intervals(x, y, 200)


def test_images_without_a_cluster_are_one_each() -> None:
    found = cluster_codes(["b", "", "a", "", "b", "c"])
    assert found is not None
    assert len(set(found.tolist())) == 5
    assert found[0] == found[4]
    assert cluster_codes(["a", "b", "a", ""]) is None, "two clusters are too few"
    assert cluster_codes([""] * 9) is None


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
