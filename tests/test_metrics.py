"""Correlations against scipy, hand-computed values and plain loops."""

from __future__ import annotations

import csv
import math
import warnings
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torchmetrics.functional.regression import kendall_rank_corrcoef

from lit_biqa.evaluation import metrics
from lit_biqa.evaluation.bootstrap import Array
from lit_biqa.evaluation.metrics import (
    Correlations,
    UndefinedCorrelationWarning,
    correlate,
    fit_logistic,
    krcc,
    logistic,
    mean,
    plcc,
    plcc_fitted,
    srcc,
)


def pairs(n: int, ties: bool, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(1, 5, n)
    y = np.clip(x + rng.normal(0, 0.8, n), 1, 5)
    return (x.round(0), y.round(1)) if ties else (x, y)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [3, 7, 500])
def test_correlations_equal_scipy(n: int, ties: bool) -> None:
    x, y = pairs(n, ties)
    assert plcc(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert srcc(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert krcc(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)


def test_kendall_is_the_b_variant_of_torchmetrics() -> None:
    x, y = pairs(60, ties=True)
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    tau_a = torch.as_tensor(kendall_rank_corrcoef(a, b, variant="a")).item()
    tau_b = torch.as_tensor(kendall_rank_corrcoef(a, b, variant="b")).item()
    assert krcc(x, y) == pytest.approx(tau_b, abs=1e-6)
    assert abs(krcc(x, y) - tau_a) > 0.01


PUBLISHED = [
    ("v11_koniq", "overall_score", 0.9205, 0.9068),
    ("v11_koniq", "caption_score", 0.8587, 0.8272),
    ("v11_agiqa", "overall_score", 0.8067, 0.7647),
    ("v11_agiqa", "reasoning_score", 0.7662, 0.6899),
    ("v13_koniq", "overall_score", 0.9171, 0.9049),
    ("v13_koniq", "caption_score", 0.9003, 0.8787),
    ("v13_agiqa", "overall_score", 0.8055, 0.7655),
    ("v13_agiqa", "reasoning_score", 0.7970, 0.7340),
    ("v14_koniq", "overall_score", 0.9257, 0.9115),
]


@pytest.mark.parametrize(("name", "column", "pearson", "spearman"), PUBLISHED)
def test_published_predictions_have_their_known_correlations(
    shared: Path, name: str, column: str, pearson: float, spearman: float
) -> None:
    """Outputs of the baseline, self-consistency and auto-encoder models of the RACT paper."""
    with (shared / "data" / "predictions" / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = correlate([float(r[column]) for r in rows], [float(r["gt_score"]) for r in rows])
    assert (found.n, found.failures) == ({"koniq": 3015, "agiqa": 2982}[name[4:]], 0)
    assert round(found.plcc, 4) == pearson
    assert round(found.srcc, 4) == spearman
    assert found.plcc_low < found.plcc < found.plcc_high
    assert found.srcc_low < found.srcc < found.srcc_high
    # Scores of one model are spread alike over thousands of images: intervals must be narrow.
    assert found.srcc_high - found.srcc_low < 0.05
    assert found.plcc_fitted >= found.plcc - 1e-6


@pytest.mark.filterwarnings("ignore:.*logistic fit")
def test_values_worked_out_by_hand() -> None:
    found = correlate([1, 2, 3, 4], [1, 3, 2, 4], bootstrap=0)
    # Covariance 4, variances 5; ranks equal values; 5 pairs agree and 1 does not.
    assert found.plcc == pytest.approx(4 / 5)
    assert found.srcc == pytest.approx(4 / 5)
    assert found.krcc == pytest.approx((5 - 1) / 6)
    assert found.rmse == pytest.approx(math.sqrt(2 / 4))
    # 6 pairs, one tied in each array, the other 4 agree: 4 / sqrt((6 - 1) (6 - 1)).
    assert krcc(np.array([1.0, 1, 2, 3]), np.array([1.0, 2, 2, 3])) == pytest.approx(4 / 5)


def test_correlated_in_float64() -> None:
    # In float32 these predictions are one value.
    x = 1003 + np.arange(5, dtype=np.float64) * 1e-5
    assert plcc(x, np.arange(5.0)) == pytest.approx(1, abs=1e-9)
    assert srcc(np.arange(3.0), np.arange(3.0)) == 1


def test_failures_are_counted_and_take_no_part() -> None:
    x, y = pairs(40, ties=False)
    nan = math.nan
    whole = correlate(x, y, bootstrap=50)
    broken = correlate([*x, nan, math.inf, nan], [*y, 3.0, 2.0, 5.0], bootstrap=50)
    assert (broken.n, broken.failures) == (43, 3)
    assert astuple(broken)[2:] == astuple(whole)[2:]


@pytest.mark.filterwarnings("ignore:.*logistic fit")
def test_rows_without_mos_are_not_counted() -> None:
    found = correlate([1, 2, 3, math.nan, 4], [1, 2, 3, math.nan, math.nan], bootstrap=0)
    assert (found.n, found.failures) == (3, 0)
    assert found.plcc == pytest.approx(1)


@pytest.mark.parametrize(
    ("scores", "mos", "why"),
    [
        ([3.0] * 4, [1, 2, 3, 4], "all 4 predictions equal 3"),
        ([3, 3 + 4e-7, 3, 3 - 4e-7], [1, 2, 3, 4], "all 4 predictions equal 3"),
        ([1, 2, 3, 4], [2.5] * 4, "all 4 labels equal 2.5"),
        ([1, 2], [1, 2], "2 scored rows"),
        ([1, 2, math.nan], [1, 2, 3], "2 scored rows"),
        ([], [], "0 scored rows"),
    ],
)
def test_undefined_is_nan_with_a_warning(scores: list[float], mos: list[float], why: str) -> None:
    with pytest.warns(UndefinedCorrelationWarning, match=f"csiq: .*undefined.*{why}"):
        found = correlate(scores, mos, label="csiq")
    for name in ("plcc", "srcc", "krcc", "plcc_fitted", "plcc_low", "srcc_high"):
        assert math.isnan(getattr(found, name)), name
    assert math.isnan(found.rmse) == (not scores)


def test_only_rank_zero_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_biqa.distributed.world", lambda: (1, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(correlate([1, 1, 1], [1, 2, 3]).srcc)


def test_logistic_is_the_published_formula() -> None:
    b1, b2, b3, b4, x = 4.5, 1.5, 2.0, -0.5, 2.7
    expected = (b1 - b2) / (1 + math.exp(-(x - b3) / abs(b4))) + b2
    assert logistic(np.array([x]), b1, b2, b3, b4)[0] == pytest.approx(expected)


@pytest.mark.parametrize("beta", [(4.5, 1.5, 2.0, 0.4), (1.2, 4.9, 3.0, 0.7)])
def test_fit_finds_a_rising_and_a_falling_logistic(beta: metrics.Logistic) -> None:
    x = np.linspace(1, 5, 80)
    y = logistic(x, *beta)
    assert fit_logistic(x, y) == pytest.approx(beta, abs=1e-3)
    assert plcc_fitted(x, y) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_fit_never_loses_to_a_line(seed: int) -> None:
    # A line is the limit of ever wider logistics, so least squares must come at least that close.
    x, y = pairs(200, ties=False, seed=seed)
    assert plcc_fitted(x, y) > abs(plcc(x, y)) - 1e-4
    assert plcc_fitted(-x, y) == pytest.approx(plcc_fitted(x, y), abs=1e-4)


def test_fit_without_an_end_is_nan_with_a_warning() -> None:
    x = np.linspace(-3, 3, 50)
    # An exact exponential is the limit of logistics whose top runs to infinity.
    with pytest.warns(UndefinedCorrelationWarning, match="kadid10k: .*did not converge"):
        assert math.isnan(plcc_fitted(x, np.exp(x), "kadid10k"))
    with pytest.warns(UndefinedCorrelationWarning, match="5 rows are needed"):
        assert math.isnan(correlate([1, 2, 3, 4], [1, 2, 4, 3], bootstrap=0).plcc_fitted)


def test_mean_averages_columns_and_adds_counts() -> None:
    one = Correlations(
        10, 1, 0.8, 0.6, 0.5, 0.4, 0.9, 0.7, 0.85, 0.5, 0.7, 0.4, 0.9, 1, 0.6, 1, 0.3, 1
    )
    two = Correlations(
        30, 0, 0.6, 0.4, 0.3, 0.8, 0.7, 0.5, 0.65, 0.3, 0.5, 0.2, 0.7, 1, 0.4, 0.8, 0.1, 0.8
    )
    assert astuple(mean([one, two])) == pytest.approx(
        (40, 1, 0.7, 0.5, 0.4, 0.6, 0.8, 0.6, 0.75, 0.4, 0.6, 0.3, 0.8, 1, 0.5, 0.9, 0.2, 0.9)
    )
    assert isinstance(mean([one, two]).n, int)


def test_mean_with_an_undefined_set_is_undefined() -> None:
    undefined = mean([Correlations(5, 0, rmse=1.0), Correlations(5, 0, 0.5, 0.5, rmse=2.0)])
    assert math.isnan(undefined.srcc)
    assert undefined.rmse == 1.5
    assert {f.name for f in fields(Correlations)} >= {"plcc_low", "srcc_high"}
