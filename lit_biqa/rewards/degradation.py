"""Reward for the named distortion and its severity."""

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
    """For naming the distortion, and, if that is right, for its severity (Q-Insight).

    >>> answer = '{"distortion_class": "blur", "severity": "slight"}'
    >>> said = Completion((), f"<answer>{answer}</answer>")
    >>> Degradation()([Group(math.nan, 0, "kadis", 0, (said,), degradation=("blur", "serious"))])
    tensor([[0.2500]])

    Attributes:
        kind: for the right class.
        severity: on top, for the right severity of the right class.
    """

    kind: float = 0.25
    severity: float = 0.75

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`; 0 for images whose task is another."""
        return reward_each(groups, self._value)

    def _value(self, group: Group, said: Completion) -> float:
        found, true = read_degradation(said.text), group.degradation
        if found is None or true is None or found[0] != true[0]:
            return 0.0
        return self.kind + self.severity * (found[1] == true[1])
