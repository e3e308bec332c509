"""Rewards of a validation's answers."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from statistics import fmean

from lit_biqa.distributed import gather_rows
from lit_biqa.paradigms import Paradigm
from lit_biqa.paradigms.base import group_of
from lit_biqa.readouts.base import Readout
from lit_biqa.readouts.ratings import Rated
from lit_biqa.types import Batch, Completion

Earned = tuple[tuple[str, str, int], float]
"""Slot, data set and row of an image, and the reward of the answer to it."""


class ValidationRewards:
    """Mean reward of each slot over the answers of a validation, without weights.

    An answer counts if its question is the one that the paradigm trains on: another question asks
    for another format, so that a reward of its answers says nothing. A slot counts the images that
    have what its reward reads (`Reward.applies_to`), such as references. A slot without any such
    answer has no mean; slots of the second pass never have one.

    Args:
        paradigm: questions and rewards.
        readout: readout that asks in validation; ``None`` for none.
    """

    def __init__(self, paradigm: Paradigm, readout: Readout | None) -> None:
        self.paradigm, self.readout = paradigm, readout
        self._earned: list[Earned] = []

    def reset(self) -> None:
        """Start a new validation."""
        self._earned = []

    def add(self, batch: Batch, answers: Sequence[str]) -> None:
        """Add the rewards of the answers to the images of a batch, one for each row."""
        groups = [
            group_of(batch["samples"][row], (Completion((), text),))
            for row, text in enumerate(answers)
            if batch["status"][row] == "ok" and self._is_own(batch, row)
        ]
        for name, slot in self.paradigm.slots.items():
            suited = [group for group in groups if slot.reward.applies_to(group)]
            if suited:
                values = slot.reward(suited)[:, 0].tolist()
                keys = ((name, group.dataset, group.index) for group in suited)
                self._earned += zip(keys, values, strict=True)

    def _is_own(self, batch: Batch, row: int) -> bool:
        """True if the readout asks about the image of a row what the paradigm trains on."""
        if not isinstance(self.readout, Rated):
            return False
        asked = self.readout.question(batch, row).messages
        return asked == self.paradigm.first(batch, row).messages

    def means(self) -> dict[str, float]:
        """Means over the images of all ranks, by slot."""
        slots: dict[str, list[float]] = {}
        for (name, _, _), value in gather_rows(self._earned, itemgetter(0)):
            slots.setdefault(name, []).append(value)
        return {name: fmean(values) for name, values in slots.items()}
