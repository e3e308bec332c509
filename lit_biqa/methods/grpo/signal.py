"""Learning signal of a step, over all ranks."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lit_biqa.distributed import all_gather
from lit_biqa.methods.grpo.rollouts import ScoredRollout
from lit_biqa.paradigms import Paradigm
from lit_biqa.paradigms.figures import unread


@dataclass(frozen=True)
class StepSignal:
    """Learning signal in the rollouts of an optimizer step, over all ranks.

    Attributes:
        differ: true if some group has different rewards.
        unread: number of answers without a rating among those that should hold one.
        answers: number of answers that should hold a rating.
    """

    differ: bool
    unread: int
    answers: int


class LearningSignal:
    """Collects the signal of this rank's rollouts between two optimizer steps."""

    def __init__(self) -> None:
        self._differ: bool | None = None  # nothing was sampled since the last step
        self._unread = self._answers = 0

    def add(self, paradigm: Paradigm, rollout: ScoredRollout) -> None:
        """Add a rollout; replayed completions (with log-probabilities already) do not count."""
        fresh = (update for update in rollout.updates if update.old is None)
        self._differ = bool(self._differ) | any(update.teaches for update in fresh)
        without, answers = unread(paradigm, rollout.rollout)
        self._unread, self._answers = self._unread + without, self._answers + answers

    def take(self, device: torch.device) -> StepSignal | None:
        """Signal of all ranks, with a reset; ``None`` if nothing was sampled.

        Args:
            device: for the communication between ranks.
        """
        differ, counts = self._differ, [int(bool(self._differ)), self._unread, self._answers]
        self._differ, self._unread, self._answers = None, 0, 0
        if differ is None:
            return None
        differing, without, answers = (
            all_gather(torch.tensor([counts], device=device)).sum(0).tolist()
        )
        return StepSignal(differing > 0, without, answers)
