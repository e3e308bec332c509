"""Reward for ranking images in the order of their MOS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lit_biqa.rewards.base import Reward, is_rated
from lit_biqa.text.parsing import (
    Form,
    read,
)
from lit_biqa.types import Group

_TINY = 1e-6  # as in VisualQuality-R1's code


@dataclass(frozen=True)
class PairwiseRanking(Reward):
    """Fidelity between predicted and true preferences, over pairs of images of one data set.

    Each rating of an image is compared with the mean rating of every other image of the same data
    set in the step, or in the part of the step that its process has. An image without another image
    to compare with earns 0. So does a completion without a rating; it does not count in its image's
    mean and variance.

    >>> low, high = (Completion((), f"<answer>{score}</answer>") for score in (2, 4))
    >>> better = Group(4.2, 0.5, "koniq10k", 0, (high, low))
    >>> worse = Group(1.7, 0.5, "koniq10k", 1, (low, low))
    >>> PairwiseRanking()([better, worse])
    tensor([[0.9609, 0.7081],
            [0.8729, 0.8729]])

    Source: VisualQuality-R1 (Wu et al., 2025), equations 1 to 3.

    Attributes:
        form: form of the rating in a completion, see `read`.
        ranked_within: ``step`` compares with the images of all processes, which is less noisy;
            ``process`` with those of the same process, as in VisualQuality-R1's code.
    """

    form: Form = "number"
    ranked_within: Literal["process", "step"] = "step"

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`."""
        rows = [[read(item.text, self.form).score for item in g.completions] for g in groups]
        scores = torch.tensor(
            [[math.nan if s is None else s for s in row] for row in rows]
        ).double()
        mos = torch.tensor([group.mos for group in groups], dtype=torch.float64)
        mean, variance = _moments(scores)
        deviation = (variance[:, None] + variance + _TINY).sqrt()
        # [P, G, P]: image, completion, other image
        p = torch.special.ndtr((scores[..., None] - mean) / deviation[:, None])
        g = ((mos[:, None] - mos).sign() + 1)[:, None] / 2
        agreement = (p * g + _TINY).sqrt() + ((1 - p) * (1 - g) + _TINY).sqrt()
        pairs = _comparable(groups)
        if self.ranked_within == "process":
            process = torch.tensor([group.process for group in groups])
            pairs &= process[:, None] == process
        return _mean_over(agreement, pairs).nan_to_num(0.0).float()

    def applies_to(self, group: Group) -> bool:
        """See `Reward`; images are ranked by their MOS."""
        return is_rated(group)


def _moments(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of the ratings of each image, missing ratings left out."""
    count = scores.isfinite().sum(1)
    mean = scores.nanmean(1)
    squares = (scores - mean[:, None]).square().nansum(1)
    return mean, squares / (count - 1).clamp(min=1)


def _comparable(groups: Sequence[Group]) -> Tensor:
    """Mask ``[P, P]`` of image pairs to compare: two images of one data set, both with a MOS."""
    sets = [group.dataset for group in groups]
    same = torch.tensor([[one == other for other in sets] for one in sets])
    rated = torch.tensor([is_rated(group) for group in groups])
    return same & rated[:, None] & rated & ~torch.eye(len(sets), dtype=torch.bool)


def _mean_over(values: Tensor, pairs: Tensor) -> Tensor:
    """Mean over the last axis of ``[P, G, P]`` where ``pairs [P, P]`` is true, without nan."""
    return values.masked_fill(~pairs[:, None], math.nan).nanmean(-1)
