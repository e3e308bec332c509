"""Paradigms of one pass."""

from __future__ import annotations

from collections.abc import Sequence

from lit_biqa.paradigms.base import RewardCredit
from lit_biqa.paradigms.question import Question
from lit_biqa.rewards import Degradation, Format, PairwiseRanking, Slot, StepScore
from lit_biqa.tasks import pixels_of
from lit_biqa.text import prompts
from lit_biqa.types import Batch, Chat, Sample, ask


class Score(Question):
    """Rating of the image, after reasoning (Q-Insight's score task).

    Args:
        score: reward of the rating.
        format: reward of its format.
        system: system prompt; empty for none.
        question: question about the image.
        group: G, completions of each image.
        reward_credit: see `Paradigm`.
        ranking: one more reward of the rating, such as `PairwiseRanking`, beside ``score``.

    Source: Q-Insight (Li et al., 2025); Reasoning as Representation, table A.4. They have no
    ``ranking``.
    """

    def __init__(
        self,
        score: Slot = Slot(StepScore(), credit="rating"),
        format: Slot = Slot(Format()),
        system: str = prompts.R1_SYSTEM,
        question: str = prompts.SCORE,
        group: int = 8,
        reward_credit: RewardCredit = "shared",
        ranking: Slot | None = None,
    ) -> None:
        slots = {"score": score, "format": format}
        if ranking is not None:
            slots["ranking"] = ranking
        super().__init__(slots, system, question, group, reward_credit=reward_credit)


class WithoutReasoning(Score):
    """`Score` without reasoning: the rating alone.

    Args:
        score: reward of the rating.
        format: reward of its format.
        system: system prompt.
        question: question about the image.
        group: G, completions of each image.

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
    """`Score` in the form of VisualQuality-R1: ratings ranked over images, without JSON.

    Args:
        score: reward of the rating.
        format: reward of its format.
        system: system prompt; empty for none.
        question: question about the image.
        group: G, completions of each image.
        reward_credit: see `Paradigm`.

    Source: VisualQuality-R1 (Wu et al., 2025).
    """

    def __init__(
        self,
        score: Slot = Slot(PairwiseRanking(), credit="rating"),
        format: Slot = Slot(Format("lenient")),
        system: str = "",
        question: str = prompts.VISUAL_QUALITY_R1,
        group: int = 6,
        reward_credit: RewardCredit = "shared",
    ) -> None:
        super().__init__(score, format, system, question, group, reward_credit)


class MultiTask(Score):
    """`Score`, or the distortion class and severity for images whose data give these.

    Each image has one task in training. For a score, every image gets the rating question.

    Args:
        score: reward of the rating.
        degradation: reward of class and severity.
        format: reward of the format of either answer.
        system: system prompt.
        question: question for a rating.
        degradation_question: question for class and severity.
        group: G, completions of each image.

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

    def suited(self, samples: Sequence[Sample]) -> list[Sample]:
        """Samples with a MOS, and samples with a degradation, which is then their task."""
        degraded = [sample for sample in samples if sample.degradation is not None]
        rated = [sample for sample in samples if sample.degradation is None]
        return [*super().suited(rated), *degraded]

    def first(self, batch: Batch, row: int, masked: bool = False) -> Chat:
        """See `Paradigm`."""
        if masked or batch["samples"][row].degradation is None:
            return super().first(batch, row, masked)
        return ask(self.degradation_question, pixels_of(batch, row), self.system)
