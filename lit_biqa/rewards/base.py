"""What a reward is, its slot in the total, and the total."""

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


@dataclass(frozen=True)
class Slot:
    """A reward and its place in the total.

    Attributes:
        reward: that is given.
        weight: in the total.
        credit: which tokens have earned it, where they are told apart: those of the reasoning,
            those of the rating, or both.
    """

    reward: Reward
    weight: float = 1.0
    credit: Literal["reasoning", "rating", "both"] = "both"


def total(slots: Mapping[str, Slot], groups: Sequence[Group]) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of rewards, and each as it is, to be logged.

    >>> from lit_biqa.rewards import Format, StepScore
    >>> slots = {"score": Slot(StepScore()), "format": Slot(Format(strict=False), 0.5)}
    >>> said = Completion((), '<think>sharp</think><answer>{"rating": 4.1}</answer>')
    >>> total(slots, [Group(4.0, 0.5, "koniq10k", 0, (said, said))])[0]
    tensor([[1.5000, 1.5000]])

    Args:
        slots: rewards by name.
        groups: P groups of G completions each.

    Returns:
        The total ``[P, G]`` and the parts by name, ``[P, G]`` each and without their weights.

    Raises:
        InputError: if a reward is not finite; names the slot.
    """
    parts = {name: slot.reward(groups) for name, slot in slots.items()}
    for name, part in parts.items():
        if not part.isfinite().all():
            raise InputError(
                f"reward {name} is not finite for {int((~part.isfinite()).sum())} of "
                f"{part.numel()} completions: one that cannot be judged earns 0"
            )
    weighted = [slot.weight * parts[name] for name, slot in slots.items()]
    return torch.stack(weighted).sum(0), parts


def reward_each(groups: Sequence[Group], value: Callable[[Group, Completion], float]) -> Tensor:
    """Rewards ``[P, G]`` of single completions by ``value``."""
    rows = [[float(value(group, said)) for said in group.completions] for group in groups]
    return torch.tensor(rows, dtype=torch.float32)


def distance_to_mos(group: Group, said: Completion, form: Form) -> float:
    """Distance of the rating from the MOS; infinite where either is missing."""
    score = read(said.text, form).score
    return math.inf if score is None or math.isnan(group.mos) else abs(score - group.mos)
