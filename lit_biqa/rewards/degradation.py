"""Reward for the distortion class and its severity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lit_biqa.rewards.base import Reward, reward_each
from lit_biqa.text.parsing import (
    read_degradation,
)
from lit_biqa.types import Completion, Group


@dataclass(frozen=True)
class Degradation(Reward):
    """Reward for the right distortion class and, on top, for its right severity (Q-Insight).

    >>> answer = '{"distortion_class": "blur", "severity": "slight"}'
    >>> completion = Completion((), f"<answer>{answer}</answer>")
    >>> group = Group(math.nan, 0, "kadis", 0, (completion,), degradation=("blur", "serious"))
    >>> Degradation()([group])
    tensor([[0.2500]])

    Attributes:
        kind: reward for the right class.
        severity: added to it for the right severity of the right class.
    """

    kind: float = 0.25
    severity: float = 0.75

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`; 0 for images of another task."""
        return reward_each(groups, self._value)

    def applies_to(self, group: Group) -> bool:
        """See `Reward`; true for images with a degradation."""
        return group.degradation is not None

    def _value(self, group: Group, completion: Completion) -> float:
        answer, truth = read_degradation(completion.text), group.degradation
        if answer is None or truth is None or answer[0] != truth[0]:
            return 0.0
        return self.kind + self.severity * (answer[1] == truth[1])
