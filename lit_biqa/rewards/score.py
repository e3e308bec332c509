"""Rewards for a rating close to the MOS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lit_biqa.rewards.base import Reward, distance_to_mos, is_rated, reward_each
from lit_biqa.text.parsing import (
    Form,
)
from lit_biqa.types import Completion, Group


@dataclass(frozen=True)
class StepScore(Reward):
    """Reward of 1 for a rating nearer to the MOS than the tolerance, else 0 (Q-Insight).

    >>> completion = Completion((), '<answer>{"rating": 4.1}</answer>')
    >>> StepScore()([Group(4.0, 0.5, "koniq10k", 0, (completion, completion))])
    tensor([[1., 1.]])

    Attributes:
        tolerance: on the scale of MOS; a rating exactly at this distance earns nothing.
        form: form of the rating in a completion, see `read`.
    """

    tolerance: float = 0.35
    form: Form = "json"

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`."""

        def near(group: Group, completion: Completion) -> bool:
            return distance_to_mos(group, completion, self.form) < self.tolerance

        return reward_each(groups, near)

    def applies_to(self, group: Group) -> bool:
        """See `Reward`; a rating is compared with the MOS."""
        return is_rated(group)


@dataclass(frozen=True)
class CosineScore(Reward):
    """``(1 + cos(pi x / t)) / 2`` for a rating at distance x < t from the MOS, else 0.

    >>> completion = Completion((), '<answer>{"rating": 4.0}</answer>')
    >>> CosineScore(tolerance=1.0)([Group(4.5, 0.5, "koniq10k", 0, (completion, completion))])
    tensor([[0.5000, 0.5000]])

    Source: *Understanding Pure Textual Reasoning*, equation 1; t = 0.35 in its code.

    Attributes:
        tolerance: t, on the scale of MOS.
        form: form of the rating in a completion, see `read`.
    """

    tolerance: float = 0.35
    form: Form = "json"

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`."""
        return reward_each(groups, self._value)

    def applies_to(self, group: Group) -> bool:
        """See `Reward`; a rating is compared with the MOS."""
        return is_rated(group)

    def _value(self, group: Group, completion: Completion) -> float:
        distance = distance_to_mos(group, completion, self.form)
        if distance >= self.tolerance:
            return 0.0
        return 0.5 * (1 + math.cos(math.pi * distance / self.tolerance))
