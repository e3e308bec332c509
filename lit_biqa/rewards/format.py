"""Reward for a completion in the format that its prompt asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lit_biqa.rewards.base import Reward, reward_each
from lit_biqa.text.parsing import (
    REASONED,
    leniently_formatted,
    prefix_formatted,
    strictly_formatted,
)
from lit_biqa.types import Group


@dataclass(frozen=True)
class Format(Reward):
    """Reward of 1 for a completion that consists of its tags alone, else 0.

    >>> completion = Completion((), "<think>sharp</think> <answer>4.1</answer>")
    >>> Format(strict=False)([Group(4.0, 0.5, "koniq10k", 0, (completion, completion))])
    tensor([[1., 1.]])

    Attributes:
        strict: true for Q-Insight's format, see `strictly_formatted`; false for
            VisualQuality-R1's, see `leniently_formatted`.
        tags: the tags, in their order.
        prefix: true for the format of the released Autoencoder, see `prefix_formatted`; ``strict``
            then says nothing.
    """

    strict: bool = True
    tags: tuple[str, ...] = REASONED
    prefix: bool = False

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`."""
        formatted = strictly_formatted if self.strict else leniently_formatted
        if self.prefix:
            formatted = prefix_formatted
        return reward_each(groups, lambda _, item: formatted(item.text, self.tags))
