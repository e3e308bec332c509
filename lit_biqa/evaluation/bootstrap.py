"""Bootstrap intervals of PLCC and SRCC: a thousand resamples of ten thousand rows in a second."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Codes = NDArray[np.intp]

# Number of resamples times rows held at once; an array of them takes 1 MB and fits caches.
BLOCK = 131_072
LEAST_CLUSTERS = 3
"""Clusters that a cluster bootstrap needs."""


def bootstrap_intervals(
    x: Array, y: Array, resamples: int = 1000, seed: int = 0, clusters: Codes | None = None
) -> tuple[float, float, float, float]:
    """95% percentile intervals of PLCC and SRCC, rows or clusters resampled with replacement.

    Rows of one generator or reference are alike, and intervals that resample rows are then too
    narrow for other generators. The cluster bootstrap draws as many clusters as there are, each
    with all of its rows (Davison and Hinkley 1997, section 3.8). Of few clusters, below about 30,
    its intervals are too narrow, too (Cameron, Gelbach and Miller 2008).

    A resample is stored as the count of each row, so that ranks follow from cumulative sums over
    values sorted once instead of a sort per resample. Resamples in which either side is constant
    have no correlation and are left out.

    Args:
        x: scores ``[N]``, no ``nan``.
        y: MOS ``[N]``, no ``nan``.
        resamples: number of resamples.
        seed: seed of the draws.
        clusters: cluster of each row ``[N]``, from `cluster_codes`; ``None`` to resample rows.

    Returns:
        ``(plcc_low, plcc_high, srcc_low, srcc_high)``.
    """
    low, high = _interval(_correlations([x], y, resamples, seed, clusters)[0])
    return low[0], high[0], low[1], high[1]


def cluster_codes(names: Sequence[str]) -> Codes | None:
    """Number of each row's cluster ``[N]``; ``None`` for fewer than `LEAST_CLUSTERS` clusters.

    Example:
        >>> cluster_codes(["glide", "sdxl", "glide", "dalle"]).tolist()
        [1, 2, 1, 0]

    Args:
        names: cluster of each row; a row without one (empty) is a cluster of its own.
    """
    if len(set(names) - {""}) < LEAST_CLUSTERS:
        return None
    unique = [(name, -1 if name else row) for row, name in enumerate(names)]
    codes = {cluster: code for code, cluster in enumerate(sorted(set(unique)))}
    return np.array([codes[cluster] for cluster in unique])


def paired_differences(
    x: Array,
    baseline: Array,
    y: Array,
    resamples: int = 1000,
    seed: int = 0,
    clusters: Codes | None = None,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Differences of PLCC and SRCC of two predictions of the same images, with 95% intervals.

    Each resample draws the same images for both, so that what makes an image easy or hard for
    both leaves the difference alone.

    Args:
        x: scores ``[N]``, no ``nan``.
        baseline: scores ``[N]`` whose correlations are subtracted from those of x.
        y: MOS ``[N]``, no ``nan``.
        resamples: how many.
        seed: of the draws.
        clusters: as in `bootstrap_intervals`.

    Returns:
        ``(difference, low, high)`` of PLCC and of SRCC; ``nan`` where a side is constant.
    """
    everything = np.ones((1, len(y)))
    first, second = (
        np.stack(
            [
                _weighted_pearson(everything, v - v.mean(), y - y.mean()),
                _weighted_pearson(everything, *(_Sorted(u).ranks(everything) for u in (v, y))),
            ]
        )[:, 0]
        for v in (x, baseline)
    )
    drawn = _correlations([x, baseline], y, resamples, seed, clusters)
    low, high = _interval(drawn[0] - drawn[1])
    plcc, srcc = (first - second).tolist()
    return (plcc, low[0], high[0]), (srcc, low[1], high[1])


def centred_ranks(values: Array) -> Array:
    """Ranks ``[N]`` less their mean, ties at their mean rank."""
    ranks: Array = _Sorted(values).ranks(np.ones((1, len(values))))[0]
    return ranks


def _correlations(
    predictions: list[Array], y: Array, resamples: int, seed: int, clusters: Codes | None
) -> Array:
    """PLCC and SRCC ``[K, 2, R]`` of K predictions in R resamples, drawn once for all."""
    rng = np.random.default_rng(seed)
    codes = np.arange(len(y)) if clusters is None else clusters
    n = int(codes.max()) + 1
    centred = y - y.mean()
    sorted_y = _Sorted(y)
    sides = [(x - x.mean(), _Sorted(x)) for x in predictions]
    blocks: list[Array] = []
    rows = max(1, BLOCK // len(y))
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = rng.integers(n, size=(count, n)) + n * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n)
        weights = times[:, codes].astype(float)
        ranks = sorted_y.ranks(weights)
        blocks.append(
            np.stack(
                [
                    (
                        _weighted_pearson(weights, values, centred),
                        _weighted_pearson(weights, ordered.ranks(weights), ranks),
                    )
                    for values, ordered in sides
                ]
            )
        )
    return np.concatenate(blocks, axis=2)


def _interval(samples: Array) -> tuple[list[float], list[float]]:
    """2.5% and 97.5% percentiles of ``[2, R]``, without resamples that have no value."""
    defined = samples[:, np.isfinite(samples).all(axis=0)]
    if not defined.size:
        return [math.nan] * 2, [math.nan] * 2
    low, high = np.percentile(defined, (2.5, 97.5), axis=1)
    return low.tolist(), high.tolist()


class _Sorted:
    """Values ``[N]`` sorted once, to rank any resample of them."""

    def __init__(self, values: Array) -> None:
        self.order = np.argsort(values, kind="stable")
        unique, self.code = np.unique(values, return_inverse=True)
        self.starts = np.searchsorted(values[self.order], unique)

    def ranks(self, weights: Array) -> Array:
        """Centred mean ranks ``[R, N]`` of each row in the resamples with ``weights [R, N]``."""
        counts = np.add.reduceat(weights[:, self.order], self.starts, axis=1)
        number = weights.sum(axis=1, keepdims=True)
        middle = np.cumsum(counts, axis=1) - (counts - 1) / 2 - (number + 1) / 2
        ranks: Array = middle[:, self.code]
        return ranks


def _weighted_pearson(w: Array, x: Array, y: Array) -> Array:
    """Pearson's correlation ``[R]`` under row counts ``w [R, N]``; x, y ``[N]`` or ``[R, N]``."""
    n = w.sum(axis=1)
    wx, wy = w * x, w * y
    mx, my = wx.sum(axis=1) / n, wy.sum(axis=1) / n
    covariance = (wx * y).sum(axis=1) / n - mx * my
    sx, sy = (wx * x).sum(axis=1) / n, (wy * y).sum(axis=1) / n
    vx, vy = sx - mx**2, sy - my**2
    # For a constant, rounding leaves a variance near 1e-16 of the second moment.
    spread = (vx > 1e-12 * sx) & (vy > 1e-12 * sy)
    r: Array = np.full(len(w), math.nan)
    r[spread] = np.clip(covariance[spread] / np.sqrt(vx[spread] * vy[spread]), -1.0, 1.0)
    return r
