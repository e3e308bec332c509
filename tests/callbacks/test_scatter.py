"""Scatter plot of a data set: points, line, curve and title."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lit_biqa.callbacks.scatter import scatter
from lit_biqa.evaluation.report import evaluate
from lit_biqa.types import Prediction


def rows_of(scores: list[float], mos: list[float]) -> list[Prediction]:
    pairs = enumerate(zip(scores, mos, strict=True))
    return [Prediction("csiq", "all@1", i, f"{i}", m, s) for i, (s, m) in pairs]


def test_scatter_shows_every_scored_image_the_line_of_equality_and_the_fit() -> None:
    rows = rows_of([1.2, 2.1, 2.8, math.nan, 3.9, 4.6], [1.5, 2.0, 3.1, 4.0, 4.2, 4.4])
    (result,) = evaluate(rows, bootstrap=0)
    (axes,) = scatter(rows, result).axes
    (points,) = axes.collections
    assert np.asarray(points.get_offsets()).tolist() == [
        [r.score, r.mos] for r in rows if r.score == r.score
    ]
    equal, fit = axes.lines
    assert np.asarray(equal.get_xydata()).tolist() == [[1, 1], [5, 5]]
    assert np.all(np.diff(np.asarray(fit.get_ydata())) >= 0)
    assert np.asarray(fit.get_xdata())[[0, -1]].tolist() == [1.2, 4.6]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted score", "MOS")
    assert axes.get_xlim() == axes.get_ylim() == pytest.approx((0.92, 5.08))
    f = result.correlations
    title = f"csiq all@1\nn = 6, 1 failed, PLCC {f.plcc:.4f}, SRCC {f.srcc:.4f}"
    assert axes.get_title() == title


@pytest.mark.filterwarnings("ignore::lit_biqa.evaluation.metrics.UndefinedCorrelationWarning")
@pytest.mark.parametrize("score", [3.0, 7.0, math.nan])
def test_scatter_of_what_has_no_correlation_has_no_fit(score: float) -> None:
    rows = rows_of([score] * 6, [1, 2, 3, 4, 5, 4])
    (axes,) = scatter(rows, evaluate(rows, bootstrap=0)[0]).axes
    assert len(axes.lines) == 1
    assert axes.get_xlim()[1] >= (score if score == score else 5)
