"""Reward for words in common with human-written references."""

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
    """ROUGE-1 of caption and reasoning against human-written references; the best one counts.

    >>> completion = Completion((), "A dog. <think>It is sharp.</think>")
    >>> references = ("A sharp dog.",)
    >>> Rouge1()([Group(4.0, 0.5, "own", 0, (completion, completion), references=references)])
    tensor([[0.7500, 0.7500]])

    Source: *Guiding Perception-Reasoning Closer to Human*, which rewards ROUGE-1; details, such as
    the removal of digits, are ours.

    Attributes:
        share: ``precision``, ``recall`` or ``f``, see `rouge1`.
        function_words: true to count words such as "the", see `FUNCTION_WORDS`.
    """

    share: Literal["precision", "recall", "f"] = "f"
    function_words: bool = True

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`; 0 for images without references."""
        return reward_each(groups, self._value)

    def applies_to(self, group: Group) -> bool:
        """See `Reward`; true for images with references."""
        return bool(group.references)

    def _value(self, group: Group, completion: Completion) -> float:
        reading = read(completion.text)
        text = f"{reading.caption} {reading.reasoning}"
        left_out = () if self.function_words else FUNCTION_WORDS
        overlaps = (rouge1(text, reference, left_out) for reference in group.references)
        return max((float(getattr(overlap, self.share)) for overlap in overlaps), default=0.0)
