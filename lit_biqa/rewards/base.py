"""The reward interface, a reward's slot in the total, and the total."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lit_biqa.text.parsing import (
    Form,
    read,
)
from lit_biqa.types import Completion, Group, InputError


class Reward(ABC):
    """A number for each completion."""

    @abstractmethod
    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """Rewards ``[P, G]`` of P groups of G completions each."""

    def applies_to(self, group: Group) -> bool:
        """True if a group holds what the reward reads beside completions, such as references."""
        return True


@dataclass(frozen=True)
class Slot:
    """A reward with its weight in the total.

    Attributes:
        reward: the reward.
        weight: its factor in the total.
        credit: tokens that get its advantage if tokens are told apart: those of the reasoning,
            those of the rating, or both.
    """

    reward: Reward
    weight: float = 1.0
    credit: Literal["reasoning", "rating", "both"] = "both"


def total(slots: Mapping[str, Slot], groups: Sequence[Group]) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of the rewards, and each reward without its weight, for logging.

    >>> from lit_biqa.rewards import Format, StepScore
    >>> slots = {"score": Slot(StepScore()), "format": Slot(Format("lenient"), 0.5)}
    >>> completion = Completion((), '<think>sharp</think><answer>{"rating": 4.1}</answer>')
    >>> total(slots, [Group(4.0, 0.5, "koniq10k", 0, (completion, completion))])[0]
    tensor([[1.5000, 1.5000]])

    Args:
        slots: rewards by name.
        groups: P groups of G completions each.

    Returns:
        Total ``[P, G]``, and the parts by name, ``[P, G]`` each, without their weights.

    Raises:
        InputError: if a reward is not finite; names the slot.
    """
    parts = {name: slot.reward(groups) for name, slot in slots.items()}
    for name, part in parts.items():
        if not part.isfinite().all():
            raise InputError(
                f"reward {name} is not finite for {int((~part.isfinite()).sum())} of "
                f"{part.numel()} completions: a completion that cannot be judged must earn 0"
            )
    weighted = [slot.weight * parts[name] for name, slot in slots.items()]
    return torch.stack(weighted).sum(0), parts


def reward_each(groups: Sequence[Group], value: Callable[[Group, Completion], float]) -> Tensor:
    """Rewards ``[P, G]`` that ``value`` gives to single completions."""
    rows = [[float(value(group, item)) for item in group.completions] for group in groups]
    return torch.tensor(rows, dtype=torch.float32)


def is_rated(group: Group) -> bool:
    """True if the image of a group has a MOS."""
    return not math.isnan(group.mos)


def distance_to_mos(group: Group, completion: Completion, form: Form) -> float:
    """Distance between the rating and the MOS; infinite if either is missing."""
    score = read(completion.text, form).score
    return math.inf if score is None or not is_rated(group) else abs(score - group.mos)
