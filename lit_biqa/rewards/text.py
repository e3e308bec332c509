"""Reward for words shared with what people wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from lit_biqa.rewards.base import Reward, reward_each
from lit_biqa.text.parsing import (
    read,
)
from lit_biqa.text.rouge import FUNCTION_WORDS, rouge1
from lit_biqa.types import Completion, Group


@dataclass(frozen=True)
class Rouge1(Reward):
    """ROUGE-1 of caption and reasoning with what people wrote, the best over people.

    >>> said = Completion((), "A dog. <think>It is sharp.</think>")
    >>> Rouge1()([Group(4.0, 0.5, "own", 0, (said, said), references=("A sharp dog.",))])
    tensor([[0.7500, 0.7500]])

    Source: *Guiding Perception-Reasoning Closer to Human*, which rewards ROUGE-1; the details, such
    as that digits do not count, are ours.

    Attributes:
        share: ``precision``, ``recall`` or ``f``, see `rouge1`.
        function_words: whether words such as "the" count, see `FUNCTION_WORDS`.
    """

    share: Literal["precision", "recall", "f"] = "f"
    function_words: bool = True

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`; 0 for images that nobody wrote about."""
        return reward_each(groups, self._value)

    def _value(self, group: Group, said: Completion) -> float:
        reading = read(said.text)
        text = f"{reading.caption} {reading.reasoning}"
        left_out = () if self.function_words else FUNCTION_WORDS
        overlaps = (rouge1(text, reference, left_out) for reference in group.references)
        return max((float(getattr(overlap, self.share)) for overlap in overlaps), default=0.0)
