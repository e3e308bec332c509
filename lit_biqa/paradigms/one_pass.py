"""Paradigms that ask once."""

from __future__ import annotations

from collections.abc import Sequence

from lit_biqa.paradigms.base import Paradigm, RewardCredit
from lit_biqa.rewards import Degradation, Format, PairwiseRanking, Slot, StepScore
from lit_biqa.tasks import pixels_of
from lit_biqa.text import prompts
from lit_biqa.types import Batch, Chat, Sample, ask


class Score(Paradigm):
    """The image is rated, with reasoning or without (Q-Insight's score task).

    Args:
        score: the reward of the rating.
        format: the reward of its form.
        system: instruction that stands before; empty for none.
        question: asked of the image.
        group: G.
        reward_credit: see `Paradigm`.

    Source: Q-Insight (Li et al., 2025); Reasoning as Representation, table A.4.
    """

    def __init__(
        self,
        score: Slot = Slot(StepScore(), credit="rating"),
        format: Slot = Slot(Format()),
        system: str = prompts.R1_SYSTEM,
        question: str = prompts.SCORE,
        group: int = 8,
        reward_credit: RewardCredit = "shared",
    ) -> None:
        slots = {"score": score, "format": format}
        super().__init__(slots, group, reward_credit=reward_credit)
        self.system, self.asked = system, question

    def first(self, batch: Batch, row: int, masked: bool = False) -> Chat:
        """See `Paradigm`."""
        return ask(self.asked, pixels_of(batch, row), self.system)


class WithoutReasoning(Score):
    """`Score` without reasoning: the rating alone.

    Args:
        score: the reward of the rating.
        format: the reward of its form.
        system: instruction that stands before.
        question: asked of the image.
        group: G.

    Source: Reasoning as Representation, table A.1.
    """

    def __init__(
        self,
        score: Slot = Slot(StepScore()),
        format: Slot = Slot(Format(tags=("answer",))),
        system: str = prompts.ANSWER_ONLY_SYSTEM,
        question: str = prompts.SCORE,
        group: int = 8,
    ) -> None:
        super().__init__(score, format, system, question, group)


class VisualQuality(Score):
    """`Score` as VisualQuality-R1: ratings ranked against those of other images, without JSON.

    Args:
        score: the reward of the rating.
        format: the reward of its form.
        system: instruction that stands before; empty for none.
        question: asked of the image.
        group: G.
        reward_credit: see `Paradigm`.

    Source: VisualQuality-R1 (Wu et al., 2025).
    """

    def __init__(
        self,
        score: Slot = Slot(PairwiseRanking(), credit="rating"),
        format: Slot = Slot(Format(strict=False)),
        system: str = "",
        question: str = prompts.VISUAL_QUALITY_R1,
        group: int = 6,
        reward_credit: RewardCredit = "shared",
    ) -> None:
        super().__init__(score, format, system, question, group, reward_credit)


class MultiTask(Score):
    """`Score`, and naming the distortion and its severity where that is what the data tell.

    Each image has one task. Where a score is wanted every image is asked for one.

    Args:
        score: the reward of the rating.
        degradation: the reward of class and severity.
        format: the reward of either's form.
        system: instruction that stands before.
        question: asked for a rating.
        degradation_question: asked for class and severity.
        group: G.

    Source: Q-Insight (Li et al., 2025).
    """

    def __init__(
        self,
        score: Slot = Slot(StepScore()),
        degradation: Slot = Slot(Degradation()),
        format: Slot = Slot(Format()),
        system: str = prompts.R1_SYSTEM,
        question: str = prompts.SCORE,
        degradation_question: str = prompts.DEGRADATION,
        group: int = 8,
    ) -> None:
        super().__init__(score, format, system, question, group)
        self.slots["degradation"] = degradation
        self.degradation_question = degradation_question

    def suited(self, samples: Sequence[Sample], beside: Sequence[Sample] = ()) -> list[Sample]:
        """Those with a MOS, and those with a degradation, whose task it is then."""
        degraded = [sample for sample in samples if sample.degradation is not None]
        rated = [sample for sample in samples if sample.degradation is None]
        return [*super().suited(rated, beside), *degraded]

    def first(self, batch: Batch, row: int, masked: bool = False) -> Chat:
        """See `Paradigm`."""
        if masked or batch["samples"][row].degradation is None:
            return super().first(batch, row, masked)
        return ask(self.degradation_question, pixels_of(batch, row), self.system)
