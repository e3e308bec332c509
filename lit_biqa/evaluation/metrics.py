"""Agreement of predicted scores with MOS: correlations, their intervals, failures.

Every function takes all rows of a data set at once, in float64. Rows are gathered over processes
and freed of repeats first (`lit_biqa.distributed.gather_rows`); averaging per batch or per rank
would be wrong.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from lit_biqa.evaluation.bootstrap import Array, bootstrap_intervals, cluster_codes

Logistic = tuple[float, float, float, float]

# Scores that differ by less than this count as equal: float32 resolves 5e-7 near 5, so a model that
# predicts a constant still shows such differences between batches.
RESOLUTION = 1e-6


class UndefinedCorrelationWarning(UserWarning):
    """A correlation is undefined and reported as ``nan``; the message says why."""


@dataclass(frozen=True)
class Correlations:
    """Agreement of predicted scores with MOS over one data set, both on [1, 5].

    Rows without a score count in ``n`` and in ``failures`` and in nothing else: every other figure
    is over the ``n - failures`` rows with a score. Undefined figures are ``nan``.

    Attributes:
        n: rows with a known MOS.
        failures: those among them that have no score.
        plcc: Pearson's linear correlation of the raw scores.
        srcc: Spearman's rank correlation, ties at their mean rank.
        krcc: Kendall's tau-b.
        rmse: root mean square of score minus MOS, in MOS units, raw.
        plcc_fitted: Pearson's correlation after `fit_logistic`.
        plcc_low: lower end of the 95% percentile bootstrap interval of ``plcc``.
        plcc_high: its upper end.
        srcc_low: lower end of the 95% percentile bootstrap interval of ``srcc``.
        srcc_high: its upper end.
        srcc_within: mean Spearman correlation within groups (`lit_biqa.evaluation.groups`).
        plcc_groups: Pearson's correlation of the groups' mean scores with their mean MOS.
        srcc_groups: Spearman's correlation of these means.
        plcc_cluster_low: lower end of the 95% interval of ``plcc`` by cluster bootstrap, which
            resamples groups of images and not images; ``nan`` for a set without groups.
        plcc_cluster_high: its upper end.
        srcc_cluster_low: lower end of that of ``srcc``.
        srcc_cluster_high: its upper end.
    """

    n: int
    failures: int
    plcc: float = math.nan
    srcc: float = math.nan
    krcc: float = math.nan
    rmse: float = math.nan
    plcc_fitted: float = math.nan
    plcc_low: float = math.nan
    plcc_high: float = math.nan
    srcc_low: float = math.nan
    srcc_high: float = math.nan
    srcc_within: float = math.nan
    plcc_groups: float = math.nan
    srcc_groups: float = math.nan
    plcc_cluster_low: float = math.nan
    plcc_cluster_high: float = math.nan
    srcc_cluster_low: float = math.nan
    srcc_cluster_high: float = math.nan


def correlate(
    scores: Sequence[float] | Array,
    mos: Sequence[float] | Array,
    bootstrap: int = 1000,
    seed: int = 0,
    label: str = "data set",
    clusters: Sequence[str] = (),
) -> Correlations:
    """Compare predicted scores with MOS.

    Correlations are ``nan``, with a warning, for fewer than three scored rows and for constant
    scores or MOS (no spread above `RESOLUTION`).

    Args:
        scores: predicted scores ``[N]``; a value that is not finite is a failure.
        mos: mean opinion scores ``[N]``; rows without a finite MOS are left out of everything,
            including ``n``.
        bootstrap: number of resamples for the intervals; 0 leaves them ``nan``.
        seed: seed of the resampling.
        label: name of these rows in warnings.
        clusters: cluster of each row ``[N]``, as in `cluster_codes`; empty for a set without.
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(mos, dtype=np.float64)
    rated = np.isfinite(y)
    scored = rated & np.isfinite(x)
    n, failures = int(rated.sum()), int(rated.sum() - scored.sum())
    x, y = x[scored], y[scored]
    rmse = float(np.sqrt(np.mean((x - y) ** 2))) if len(x) else math.nan
    if (reason := _undefined(x, y)) is not None:
        _warn(f"{label}: correlations are undefined (nan): {reason}.")
        return Correlations(n, failures, rmse=rmse)
    intervals = bootstrap_intervals(x, y, bootstrap, seed) if bootstrap else (math.nan,) * 4
    whole = Correlations(
        n, failures, plcc(x, y), srcc(x, y), krcc(x, y), rmse, plcc_fitted(x, y, label), *intervals
    )
    rows = np.flatnonzero(scored).tolist() if clusters and bootstrap else []
    if (codes := cluster_codes([clusters[row] for row in rows])) is None:
        return whole
    low, high, srcc_low, srcc_high = bootstrap_intervals(x, y, bootstrap, seed, codes)
    return replace(
        whole,
        plcc_cluster_low=low,
        plcc_cluster_high=high,
        srcc_cluster_low=srcc_low,
        srcc_cluster_high=srcc_high,
    )


def _undefined(x: Array, y: Array) -> str | None:
    """Reason why these scored rows have no correlation; ``None`` if they have one."""
    if len(x) < 3:
        return f"{len(x)} scored rows with a MOS, and 3 are needed"
    for values, what in ((x, "predictions"), (y, "labels")):
        if np.ptp(values) < RESOLUTION:
            return f"all {len(x)} {what} equal {values[0]:.4g}"
    return None


def _warn(message: str) -> None:
    from lit_biqa.distributed import world  # imports torch

    if world()[0] == 0:
        warnings.warn(message, UndefinedCorrelationWarning, stacklevel=3)


def plcc(x: Array, y: Array) -> float:
    """Pearson's linear correlation of two arrays ``[N]``, in float64."""
    import torch
    from torchmetrics.functional.regression import pearson_corrcoef

    first, second = (torch.from_numpy(np.asarray(v, dtype=np.float64)) for v in (x, y))
    return float(pearson_corrcoef(first, second))


def srcc(x: Array, y: Array) -> float:
    """Spearman's correlation: Pearson's, of ranks, ties at their mean rank.

    Torchmetrics' own Spearman is not used: it takes the ranks' correlation in float32 and adds
    1e-6 to its denominator, so that three rows in perfect order give 0.9999985.
    """
    from scipy.stats import rankdata

    return plcc(rankdata(x), rankdata(y))


def krcc(x: Array, y: Array) -> float:
    """Kendall's tau-b (Kendall 1945), which corrects for ties in either array.

    From scipy, in O(N log N): torchmetrics' is quadratic and takes its root in float32.
    """
    from scipy.stats import kendalltau

    return float(kendalltau(x, y, variant="b").statistic)


def logistic(x: Array, b1: float, b2: float, b3: float, b4: float) -> Array:
    """The four-parameter logistic of the VQEG: ``(b1 - b2) / (1 + exp(-(x - b3) / |b4|)) + b2``.

    Source: VQEG, Final report on the validation of objective models of video quality assessment,
    2000, section on the fit of objective to subjective scores.
    """
    from scipy.special import expit

    curve: Array = b2 + (b1 - b2) * expit((x - b3) / abs(b4))
    return curve


def fit_logistic(x: Array, y: Array) -> Logistic | None:
    """Fit `logistic` to MOS ``y`` over scores ``x``, both ``[N]``, by least squares.

    Both are standardised for the fit. It starts from the ends of ``y``, the mean of ``x`` and four
    slopes, rising or falling like the data, and the best result is taken: from a single start the
    search may end at a step function. ``ftol`` is chosen for PLCC, not for the parameters: on data
    that are nearly a line or an exponential these run to infinity while the curve converges.

    Returns:
        ``(b1, b2, b3, b4)``, or ``None`` if no start converged or N < 5.
    """
    from scipy.optimize import OptimizeWarning, curve_fit

    if len(x) < 5:
        return None
    mx, sx, my, sy = x.mean(), x.std(), y.mean(), y.std()
    u, v = (x - mx) / sx, (y - my) / sy
    top, bottom = (v.max(), v.min()) if np.dot(u, v) >= 0 else (v.min(), v.max())
    ends: list[tuple[float, Array]] = []
    for slope in (0.25, 0.5, 1.0, 2.0):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                parameters, _ = curve_fit(
                    logistic, u, v, p0=(top, bottom, 0.0, slope), ftol=1e-6, maxfev=2000
                )
            except RuntimeError:
                continue
        ends.append((float(np.sum((logistic(u, *parameters) - v) ** 2)), parameters))
    if not ends:
        return None
    b1, b2, b3, b4 = (float(b) for b in min(ends, key=lambda end: end[0])[1])
    return b1 * sy + my, b2 * sy + my, b3 * sx + mx, abs(b4) * sx


def plcc_fitted(x: Array, y: Array, label: str = "data set") -> float:
    """Pearson's correlation of `logistic`-mapped scores with MOS; ``nan`` without a fit."""
    beta = fit_logistic(x, y)
    if beta is None or np.ptp(logistic(x, *beta)) < RESOLUTION:
        why = "5 rows are needed" if len(x) < 5 else "it did not converge"
        _warn(f"{label}: the logistic fit is undefined (plcc_fitted is nan): {why}.")
        return math.nan
    return plcc(logistic(x, *beta), y)


def mean(results: Sequence[Correlations]) -> Correlations:
    """Mean row of a table: ``n`` and ``failures`` summed, every other column averaged.

    A column that is ``nan`` for one data set is ``nan`` here: leaving a set out would compare
    runs over different sets. The interval columns are mean ends, not an interval of the mean.
    """
    averages = {
        field.name: float(np.mean([getattr(result, field.name) for result in results]))
        for field in fields(Correlations)
        if field.name not in ("n", "failures")
    }
    return Correlations(
        n=sum(result.n for result in results),
        failures=sum(result.failures for result in results),
        **averages,
    )
