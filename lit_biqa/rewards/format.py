"""Reward for a completion in the format that its prompt asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from lit_biqa.rewards.base import Reward, reward_each
from lit_biqa.text.parsing import (
    REASONED,
    leniently_formatted,
    prefix_formatted,
    strictly_formatted,
)
from lit_biqa.types import Group

Match = Literal["strict", "lenient", "prefix"]

_FORMATTED: Mapping[Match, Callable[[str, Sequence[str]], bool]] = {
    "strict": strictly_formatted,
    "lenient": leniently_formatted,
    "prefix": prefix_formatted,
}


@dataclass(frozen=True)
class Format(Reward):
    """Reward of 1 for a completion in the format of its tags, else 0.

    >>> completion = Completion((), "<think>sharp</think> <answer>4.1</answer>")
    >>> Format("lenient")([Group(4.0, 0.5, "koniq10k", 0, (completion, completion))])
    tensor([[1., 1.]])

    Attributes:
        match: ``strict`` for Q-Insight's format, see `strictly_formatted`; ``lenient`` for
            VisualQuality-R1's, see `leniently_formatted`; ``prefix`` for that of the released
            Autoencoder, see `prefix_formatted`.
        tags: the tags, in their order.
    """

    match: Match = "strict"
    tags: tuple[str, ...] = REASONED

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`."""
        formatted = _FORMATTED[self.match]
        return reward_each(groups, lambda _, item: formatted(item.text, self.tags))
