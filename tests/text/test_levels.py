"""Level words and soft labels by hand, by scipy and a linear solve, and on real ratings."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from lit_biqa.text.levels import (
    LEVELS,
    SCORES,
    Density,
    expected_score,
    level_of,
    score_of,
    soft_labels,
    two_point_labels,
)
from lit_biqa.types import InputError


@pytest.mark.parametrize(
    ("score", "level"),
    [
        (1.0, "bad"),
        (1.8, "bad"),
        (1.81, "poor"),
        (2.6, "poor"),
        (2.61, "fair"),
        (3.0, "fair"),
        (3.4, "fair"),
        (3.41, "good"),
        (4.2, "good"),
        (4.21, "excellent"),
        (5.0, "excellent"),
        # What rescaling to [1, 5] leaves of a bound or an end.
        (1 + 4 * 0.2 + 1e-15, "bad"),
        (1 + 4 * 0.6 + 1e-12, "fair"),
        (5 + 1e-12, "excellent"),
        (1 - 1e-12, "bad"),
    ],
)
def test_five_equal_bins_with_bounds_in_the_lower(score: float, level: str) -> None:
    assert level_of(score) == level


@pytest.mark.parametrize("score", [0.9, 5.1, 77.4, math.nan, math.inf])
def test_a_score_off_the_scale_has_no_level(score: float) -> None:
    with pytest.raises(InputError, match=rf"score {score} has no level: .* \[1, 5\]"):
        level_of(score)


def test_levels_and_scores_agree() -> None:
    assert [score_of(level) for level in LEVELS] == [1, 2, 3, 4, 5]
    assert [level_of(score) for score in SCORES] == list(LEVELS)
    with pytest.raises(InputError, match=r"no level 'god'. Did you mean good"):
        score_of("god")


def test_expected_score_by_hand() -> None:
    p = torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0], [0.5, 0.0, 0.25, 0.25, 0.0]])
    assert expected_score(p).tolist() == [5.0, 2.25]
    assert expected_score(torch.tensor([0.2, 0.3, 0.5]), (1.0, 0.5, 0.0)).item() == pytest.approx(
        0.35
    )


def test_two_point_labels_by_hand() -> None:
    labels = two_point_labels(torch.tensor([1.0, 2.25, 3.0, 4.9, 5.0], dtype=torch.float64))
    expected = [
        [1, 0, 0, 0, 0],
        [0, 0.75, 0.25, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0.1, 0.9],
        [0, 0, 0, 0, 1],
    ]
    assert torch.allclose(labels, torch.tensor(expected, dtype=torch.float64))


# MOS and deviation on [1, 5] and the label, from bad to excellent, of images of KADID-10k, as they
# stand in the training list that DeQA-Score's authors publish (train_kadid_8k.json).
PUBLISHED = [
    ("I01_01_01", 4.633588, 0.716817, [0, 0, 0.0309912502, 0.4356849944, 0.570712997]),
    ("I01_01_02", 4.389313, 0.948806, [0, 0, 0.1548012606, 0.4754675459, 0.4163569551]),
    (
        "I01_01_03",
        2.699746,
        0.904078,
        [0.0704665496, 0.3344933965, 0.4294681615, 0.1559717431, 0.0096001493],
    ),
]


@pytest.mark.parametrize(("image", "mos", "std", "label"), PUBLISHED)
def test_soft_labels_are_those_that_deqa_score_publishes(
    image: str, mos: float, std: float, label: list[float]
) -> None:
    assert soft_labels(one(mos), one(std), "pdf")[0].tolist() == pytest.approx(label, abs=1e-6)


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def solved(mos: float, std: float, density: Density) -> Any:
    """The label before fallbacks: alpha and beta from their two equations, solved as such."""
    levels = np.arange(1, 6)
    if density == "pdf":
        p = norm.pdf(levels, mos, std)
    else:
        p = norm.cdf(levels + 0.5, mos, std) - norm.cdf(levels - 0.5, mos, std)
    equations = np.array([[p.sum(), 5], [p @ levels, 15]])
    alpha, beta = np.linalg.solve(equations, [1, mos])
    return np.maximum(alpha * p + beta, 0)


@pytest.mark.parametrize("density", ["pdf", "cdf"])
@pytest.mark.parametrize(("mos", "std"), [(3.2, 0.7), (2.4, 0.5), (3.9, 0.45), (2.9, 1.3)])
def test_soft_labels_solve_both_equations(mos: float, std: float, density: Density) -> None:
    label = soft_labels(one(mos), one(std), density)
    assert label[0].tolist() == pytest.approx(solved(mos, std, density).tolist(), abs=1e-9)


def test_a_label_that_needs_no_cut_has_the_mos_for_mean_and_sums_to_one() -> None:
    mos = torch.tensor([2.8, 3.0, 3.3], dtype=torch.float64)
    label = soft_labels(mos, torch.full_like(mos, 0.7), "pdf")
    assert torch.allclose(label.sum(1), torch.ones_like(mos), atol=1e-12)
    assert torch.allclose(expected_score(label), mos, atol=1e-12)


def test_the_label_at_3_is_that_of_its_neighbours_and_no_uniform_one() -> None:
    mos = torch.tensor([2.999, 3.0, 3.001], dtype=torch.float64)
    label = soft_labels(mos, torch.full_like(mos, 1.3), "pdf")
    assert torch.allclose(label[1], (label[0] + label[2]) / 2, atol=1e-6)
    assert label[1].tolist() == pytest.approx(label[1].flip(0).tolist(), abs=1e-9)
    assert label[1, 2] > 0.36  # near 3, 0.363 by the two equations


def test_a_label_cut_at_zero_keeps_its_other_bars() -> None:
    # By the two equations the lowest bar is negative here; the mean moves by less than 0.1.
    expected = solved(3.9, 0.7, "pdf")
    assert expected[0] == 0
    assert 1 < expected.sum() < 1.1
    label = soft_labels(one(3.9), one(0.7), "pdf")
    assert label[0].tolist() == pytest.approx(expected.tolist(), abs=1e-9)


def test_two_points_where_raters_agree_or_the_cut_moves_the_mean() -> None:
    label = soft_labels(torch.tensor([3.25, 3.25]), torch.tensor([0.0, 0.19]), "pdf")
    assert label.tolist() == [[0, 0, 0.75, 0.25, 0]] * 2
    assert torch.equal(soft_labels(one(3.48), one(0.199), "cdf"), two_point_labels(one(3.48)))
    kept = soft_labels(one(3.48), one(0.2), "cdf")[0]
    assert kept.tolist() == pytest.approx([0, 0, 0.5544, 0.4714, 0], abs=1e-4)
    before = solved(1.3, 1.2, "pdf")
    assert abs(before @ np.arange(1, 6) - 1.3) > 0.1
    after = soft_labels(torch.tensor([1.3]), torch.tensor([1.2]), "pdf")
    assert after[0].tolist() == pytest.approx([0.7, 0.3, 0, 0, 0], abs=1e-6)
    assert after.dtype is torch.float32


@pytest.mark.parametrize("std", [math.nan, -0.1, math.inf])
def test_unusable_deviations_are_refused(std: float) -> None:
    with pytest.raises(InputError, match=r"1 of 2 images: standard deviation .* two-point"):
        soft_labels(torch.tensor([3.0, 4.0]), torch.tensor([0.5, std]), "pdf")


@pytest.mark.parametrize("mos", [math.nan, 77.4, 0.5])
def test_unusable_scores_are_refused(mos: float) -> None:
    with pytest.raises(InputError, match=r"1 of 2 images: MOS .* \[1, 5\]"):
        soft_labels(torch.tensor([3.0, mos]), torch.tensor([0.5, 0.5]), "cdf")
    with pytest.raises(InputError, match=r"1 of 1 images: MOS"):
        two_point_labels(torch.tensor([mos]))


def test_on_real_ratings_labels_have_the_mos_for_mean(shared: Path) -> None:
    with (shared / "data/KADID-10k/dmos.csv").open() as file:
        rows = list(csv.DictReader(file))
    mos = torch.tensor([1 + 4 * (float(row["dmos"]) - 1) / 3.93 for row in rows]).double()
    std = torch.tensor([4 * math.sqrt(float(row["var"])) / 3.93 for row in rows]).double()
    assert len(mos) == 10125
    label = soft_labels(mos, std, "pdf")
    assert label.isfinite().all()
    assert (label >= 0).all()
    assert ((expected_score(label) - mos).abs() <= 0.1).all()
    # The shares of the original code on this file.
    two_point = (label == two_point_labels(mos)).all(1).double().mean().item()
    assert two_point == pytest.approx(0.173, abs=5e-4)
