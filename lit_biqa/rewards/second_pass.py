"""Reward for the completions of the second, text-only pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lit_biqa.rewards.base import Reward
from lit_biqa.rewards.score import CosineScore
from lit_biqa.types import Group


@dataclass(frozen=True)
class SecondPass(Reward):
    """Another reward, averaged over the M completions that the second pass makes of a caption.

    With the default reward this is the self-consistency reward. A completion that gave the second
    pass no caption earns 0.

    >>> answer = Completion((), '<answer>{"rating": 4.0}</answer>')
    >>> first = (Completion((), "a sharp picture"), Completion((), ""))
    >>> SecondPass()([Group(4.0, 0.5, "koniq10k", 0, first, second=((answer, answer), ()))])
    tensor([[1., 0.]])

    Source: *Understanding Pure Textual Reasoning*, equations 2 and 4.

    Attributes:
        reward: reward of single completions, such as a score or a format.
    """

    reward: Reward = CosineScore()

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`.

        Raises:
            ValueError: if a group has no second pass.
        """
        return torch.stack([self._of_group(group) for group in groups])

    def applies_to(self, group: Group) -> bool:
        """See `Reward`; true after a second pass to which the other reward applies."""
        return bool(group.second) and self.reward.applies_to(group)

    def _of_group(self, group: Group) -> Tensor:
        if len(group.second) != len(group.completions):
            raise ValueError(f"a second pass of {len(group.second)}, not {len(group.completions)}")
        passes = (replace(group, completions=items, second=()) for items in group.second)
        nothing = torch.zeros(())
        means = [self.reward([one]).mean() if one.completions else nothing for one in passes]
        return torch.stack(means)
