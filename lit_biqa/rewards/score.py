"""Rewards for a rating near the MOS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lit_biqa.rewards.base import Reward, distance_to_mos, reward_each
from lit_biqa.text.parsing import (
    Form,
)
from lit_biqa.types import Completion, Group


@dataclass(frozen=True)
class StepScore(Reward):
    """1 for a rating nearer to the MOS than the tolerance, else 0 (Q-Insight).

    >>> said = Completion((), '<answer>{"rating": 4.1}</answer>')
    >>> StepScore()([Group(4.0, 0.5, "koniq10k", 0, (said, said))])
    tensor([[1., 1.]])

    Attributes:
        tolerance: on the scale of MOS; the distance itself no longer earns.
        form: how the rating is written, see `read`.
    """

    tolerance: float = 0.35
    form: Form = "json"

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`."""

        def near(group: Group, said: Completion) -> bool:
            return distance_to_mos(group, said, self.form) < self.tolerance

        return reward_each(groups, near)


@dataclass(frozen=True)
class CosineScore(Reward):
    """``(1 + cos(pi x / t)) / 2`` for a rating x from the MOS, nearer than the tolerance t, else 0.

    >>> said = Completion((), '<answer>{"rating": 4.0}</answer>')
    >>> CosineScore(tolerance=1.0)([Group(4.5, 0.5, "koniq10k", 0, (said, said))])
    tensor([[0.5000, 0.5000]])

    Source: *Understanding Pure Textual Reasoning*, equation 1; t = 0.35 in its code.

    Attributes:
        tolerance: t, on the scale of MOS.
        form: how the rating is written, see `read`.
    """

    tolerance: float = 0.35
    form: Form = "json"

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`."""
        return reward_each(groups, self._value)

    def _value(self, group: Group, said: Completion) -> float:
        distance = distance_to_mos(group, said, self.form)
        if distance >= self.tolerance:
            return 0.0
        return 0.5 * (1 + math.cos(math.pi * distance / self.tolerance))
