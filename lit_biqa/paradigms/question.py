"""Paradigms whose first prompt is one question about the image."""

from __future__ import annotations

from collections.abc import Mapping

from lit_biqa.paradigms.base import Paradigm, RewardCredit
from lit_biqa.rewards import Slot
from lit_biqa.tasks import pixels_of
from lit_biqa.types import Batch, Chat, ask


class Question(Paradigm):
    """The same question about every image, below a system prompt.

    Args:
        slots: rewards by name.
        system: system prompt; empty for none.
        question: about the image.
        group: G, completions of each image.
        second: M, completions of each caption; 0 for no second pass.
        update_pass1: whether the first pass contributes to the loss.
        update_pass2: whether the second pass contributes to the loss.
        reward_credit: see `Paradigm`.
    """

    def __init__(
        self,
        slots: Mapping[str, Slot],
        system: str,
        question: str,
        group: int,
        second: int = 0,
        update_pass1: bool = True,
        update_pass2: bool = False,
        reward_credit: RewardCredit = "shared",
    ) -> None:
        super().__init__(slots, group, second, update_pass1, update_pass2, reward_credit)
        self.system, self.asked = system, question

    def first(self, batch: Batch, row: int, masked: bool = False) -> Chat:
        """See `Paradigm`."""
        return ask(self.asked, pixels_of(batch, row), self.system)
