"""Bootstrap intervals of PLCC and SRCC, a thousand resamples of ten thousand rows in a second."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Resamples times rows held at once; an array of them takes 1 MB, which caches hold.
BLOCK = 131_072


def bootstrap_intervals(
    x: Array, y: Array, resamples: int = 1000, seed: int = 0
) -> tuple[float, float, float, float]:
    """95% percentile intervals of PLCC and SRCC, rows resampled with replacement.

    A resample is the number of times each row was drawn, so that ranks follow from cumulative
    sums over values sorted once instead of a sort per resample. Resamples in which either side is
    constant have no correlation and are left out.

    Args:
        x: scores ``[N]``, no ``nan``.
        y: MOS ``[N]``, no ``nan``.
        resamples: how many.
        seed: of the draws.

    Returns:
        ``(plcc_low, plcc_high, srcc_low, srcc_high)``.
    """
    rng, n = np.random.default_rng(seed), len(x)
    values = np.stack([x - x.mean(), y - y.mean()])
    sorts = [_Sorted(v) for v in (x, y)]
    found: list[Array] = []
    rows = max(1, BLOCK // n)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = rng.integers(n, size=(count, n)) + n * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n).astype(float)
        pearson = _weighted_pearson(weights, values[0], values[1])
        spearman = _weighted_pearson(weights, *(s.ranks(weights) for s in sorts))
        found.append(np.stack([pearson, spearman]))
    both = np.concatenate(found, axis=1)
    defined = both[:, np.isfinite(both).all(axis=0)]
    if not defined.size:
        return (math.nan,) * 4
    low, high = np.percentile(defined, (2.5, 97.5), axis=1)
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])


class _Sorted:
    """Values ``[N]`` sorted once, to rank any resample of them."""

    def __init__(self, values: Array) -> None:
        self.order = np.argsort(values, kind="stable")
        unique, self.code = np.unique(values, return_inverse=True)
        self.starts = np.searchsorted(values[self.order], unique)

    def ranks(self, weights: Array) -> Array:
        """Centred mean ranks ``[R, N]`` of each row in the resamples with ``weights [R, N]``."""
        counts = np.add.reduceat(weights[:, self.order], self.starts, axis=1)
        middle = np.cumsum(counts, axis=1) - (counts - 1) / 2 - (weights.shape[1] + 1) / 2
        ranks: Array = middle[:, self.code]
        return ranks


def _weighted_pearson(w: Array, x: Array, y: Array) -> Array:
    """Pearson's correlation ``[R]`` under row counts ``w [R, N]``; x, y ``[N]`` or ``[R, N]``."""
    n = w.shape[1]
    wx, wy = w * x, w * y
    mx, my = wx.sum(axis=1) / n, wy.sum(axis=1) / n
    covariance = (wx * y).sum(axis=1) / n - mx * my
    sx, sy = (wx * x).sum(axis=1) / n, (wy * y).sum(axis=1) / n
    vx, vy = sx - mx**2, sy - my**2
    # Of a constant, rounding leaves a variance near 1e-16 of the second moment.
    spread = (vx > 1e-12 * sx) & (vy > 1e-12 * sy)
    r: Array = np.full(len(w), math.nan)
    r[spread] = np.clip(covariance[spread] / np.sqrt(vx[spread] * vy[spread]), -1.0, 1.0)
    return r
