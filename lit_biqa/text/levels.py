"""Five quality levels, their scores, and soft labels over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lit_biqa.types import InputError, nearest

LEVELS = ("bad", "poor", "fair", "good", "excellent")
SCORES = (1.0, 2.0, 3.0, 4.0, 5.0)

Density = Literal["pdf", "cdf"]

_WIDTH = 0.8  # width of each of the five equal bins of [1, 5]
_ROUNDING = 1e-8  # tolerance by which a score may miss a bound
_LEAST_STD = 0.2
_MOST_SHIFT = 0.1
_BESIDE = 1e-6


def level_of(score: float) -> str:
    """Level word of a score: the bin of five equal bins of [1, 5] that holds the score.

    A score on the bound of two bins belongs to the lower one.

    Raises:
        InputError: if the score is no number on [1, 5].

    Source: Q-Align (Wu et al., 2024), equation 1; bounds as in DeQA-Score's code.
    """
    if not 1 - _ROUNDING <= score <= 5 + _ROUNDING:
        raise InputError(f"score {score} has no level: levels cover [1, 5]; rescale the score")
    above = sum(score > 1 + _WIDTH * bound + _ROUNDING for bound in range(1, len(LEVELS)))
    return LEVELS[above]


def score_of(level: str) -> float:
    """Score of a level, from 1 for ``bad`` to 5 for ``excellent``.

    Raises:
        InputError: if the word is no level.
    """
    if level not in LEVELS:
        raise InputError(f"no level {level!r}{nearest(level, LEVELS)}")
    return SCORES[LEVELS.index(level)]


def expected_score(probabilities: Tensor, scores: Sequence[float] = SCORES) -> Tensor:
    """Mean score under the probabilities of the levels.

    Args:
        probabilities: ``[..., K]``, each row sums to 1.
        scores: scores of the K levels; by default 1 to 5 in the order of `LEVELS`.

    Returns:
        ``[...]``, on the scale of ``scores``.

    Source: Q-Align (Wu et al., 2024), the conversion of level probabilities in inference.
    """
    return probabilities @ probabilities.new_tensor(scores)


def two_point_labels(mos: Tensor) -> Tensor:
    """Soft labels on the two levels next to each MOS, weighted by their nearness.

    Args:
        mos: mean opinion scores on [1, 5], ``[B]``.

    Returns:
        ``[B, 5]`` in the order of `LEVELS`; each row sums to 1 and its mean is the MOS.

    Raises:
        InputError: if a MOS is no number on [1, 5].

    Source: DeQA-Score (You et al., 2025), its label for images of small deviation.
    """
    _check(mos, (mos >= 1 - _ROUNDING) & (mos <= 5 + _ROUNDING), "MOS", "a number on [1, 5]")
    return (1 - (mos[:, None] - mos.new_tensor(SCORES)).abs()).clamp(min=0)


def soft_labels(mos: Tensor, std: Tensor, density: Density) -> Tensor:
    """Soft labels that keep the spread of the ratings: a normal distribution over five levels.

    The normal distribution of each image is evaluated at the five levels, scaled and shifted
    (``alpha p + beta``) to sum 1 and the MOS as mean, and clipped at 0. If clipping moves the mean
    by more than 0.1, or if the deviation is below 0.2, `two_point_labels` replaces the label. As in
    the original, a clipped label is not normalised again.

    The original code gives a uniform label if the MOS is exactly 3, because ``alpha`` is 0/0 there.
    This function takes the limit.

    Args:
        mos: mean opinion scores on [1, 5], ``[B]``.
        std: standard deviations of single ratings on the same scale, ``[B]``.
        density: ``pdf`` takes the density at a level (DeQA-Score: KonIQ-10k, KADID-10k), ``cdf``
            integrates it from half a level below to half a level above (SPAQ).

    Returns:
        ``[B, 5]`` in the order of `LEVELS`, in the dtype of ``mos``.

    Raises:
        InputError: if a MOS is no number on [1, 5], or a deviation is unknown or negative.

    Source: DeQA-Score (You et al., 2025), soft labels and appendix; thresholds and densities as in
    its code.
    """
    two_point = two_point_labels(mos)
    _check(
        std,
        (std >= 0) & std.isfinite(),
        "standard deviation of the ratings",
        "known, finite and not negative; use two-point labels for a data set without deviations",
    )
    # Deviations below the threshold are not used, but must not divide by zero.
    mean, spread = mos.double()[:, None], std.double().clamp(min=_LEAST_STD)[:, None]
    levels = mean.new_tensor(SCORES)
    p = _bars(mean, spread, levels, density)
    # Numerator and denominator of alpha both vanish at 3, where alpha is even in the MOS: evaluate
    # it just beside.
    beside = torch.where((mean - 3).abs() < _BESIDE, 3 + _BESIDE, mean)
    lever = (_bars(beside, spread, levels, density) * (levels - 3)).sum(1, keepdim=True)
    alpha = (beside - 3) / lever
    beta = (1 - alpha * p.sum(1, keepdim=True)) / len(LEVELS)
    label = (alpha * p + beta).clamp(min=0)
    shift = (expected_score(label)[:, None] - mean).abs()
    given_up = (std.double()[:, None] < _LEAST_STD) | (shift > _MOST_SHIFT)
    return torch.where(given_up, two_point.double(), label).to(mos.dtype)


def _bars(mean: Tensor, std: Tensor, levels: Tensor, density: Density) -> Tensor:
    """Values of the normal distribution at the levels, ``[B, 5]``."""
    if density == "pdf":
        return (-(((levels - mean) / std) ** 2) / 2).exp() / (std * math.sqrt(2 * math.pi))
    above, below = (levels + 0.5 - mean) / std, (levels - 0.5 - mean) / std
    bars: Tensor = torch.special.ndtr(above) - torch.special.ndtr(below)
    return bars


def _check(values: Tensor, fine: Tensor, what: str, expected: str) -> None:
    if not fine.all():
        wrong = values[~fine]
        raise InputError(
            f"{len(wrong)} of {len(values)} images: {what} is {wrong[0].item():g}; it must be "
            f"{expected}"
        )
