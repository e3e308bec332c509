"""Tests of differences between two predictions of the same images, corrected for many data sets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lit_biqa.evaluation.bootstrap import BLOCK, Array, centred_ranks


def exchange_test(
    x: Array, baseline: Array, y: Array, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Probabilities of differences as large as those of PLCC and of SRCC, were both alike.

    If two predictions are alike, either could have given each score: the scores of every image are
    exchanged between them by a coin, and the difference is taken again (a permutation test of
    pairs, two-sided). Scores are standardised first, so that both are on one scale; for SRCC their
    ranks are exchanged.

    Args:
        x: scores ``[N]``, no ``nan``.
        baseline: scores ``[N]`` of the same images.
        y: MOS ``[N]``, no ``nan``.
        resamples: how many exchanges are drawn; the smallest probability is
            ``1 / (resamples + 1)``.
        seed: of the draws.

    Returns:
        Probabilities for PLCC and SRCC; ``nan`` where a side is constant.
    """
    plcc = _exchanged(x - x.mean(), baseline - baseline.mean(), y - y.mean(), resamples, seed)
    ranks = [centred_ranks(values) for values in (x, baseline, y)]
    return plcc, _exchanged(ranks[0], ranks[1], ranks[2], resamples, seed)


def holm(probabilities: Sequence[float]) -> list[float]:
    """Probabilities of several tests, raised so that all together err as rarely as one.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.

    Args:
        probabilities: of the single tests; ``nan`` for one that says nothing, which does not count.

    Returns:
        Adjusted probabilities in the same order, each at most 1.
    """
    adjusted = list(probabilities)
    tests = sorted((p, i) for i, p in enumerate(probabilities) if not math.isnan(p))
    largest = 0.0
    for place, (p, i) in enumerate(tests):
        largest = max(largest, min(1.0, p * (len(tests) - place)))
        adjusted[i] = largest
    return adjusted


def _exchanged(x: Array, baseline: Array, y: Array, resamples: int, seed: int) -> float:
    """Probability for values that are centred, each ``[N]``."""
    norms = [float(np.linalg.norm(values)) for values in (x, baseline, y)]
    if min(norms) < 1e-12 * max(1.0, *norms):
        return math.nan
    x, baseline, y = (values / norm for values, norm in zip((x, baseline, y), norms, strict=True))
    measured = abs(float(x @ y - baseline @ y))
    rng, n = np.random.default_rng(seed), len(y)
    # Sums over the exchanged scores are those of the baseline, and of x where the coin says so.
    total = np.array([(v.sum(), v @ v, v @ y) for v in (x, baseline)])
    swap = np.stack([x - baseline, x**2 - baseline**2, (x - baseline) * y], axis=1)
    as_large = drawn = 0
    for start in range(0, resamples, rows := max(1, BLOCK // n)):
        coins = rng.integers(0, 2, (min(rows, resamples - start), n), dtype=bool)
        first = total[1] + coins @ swap
        found = abs(_pearson(first, n) - _pearson(total.sum(axis=0) - first, n))
        found = found[np.isfinite(found)]
        as_large += int((found >= measured - 1e-12).sum())
        drawn += len(found)
    return (1 + as_large) / (1 + drawn)


def _pearson(sums: Array, n: int) -> Array:
    """Correlation with a centred ``y`` of norm 1, from sums of v, v squared and v times y."""
    spread = sums[:, 1] - sums[:, 0] ** 2 / n
    r: Array = np.full(len(sums), math.nan)
    np.divide(sums[:, 2], np.sqrt(np.maximum(spread, 0)), out=r, where=spread > 1e-12)
    return r
