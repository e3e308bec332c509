"""Paradigms that ask once."""

from __future__ import annotations

from lit_biqa.paradigms.base import Paradigm, RewardCredit
from lit_biqa.rewards import Format, PairwiseRanking, Slot, StepScore
from lit_biqa.tasks import pixels_of
from lit_biqa.text import prompts
from lit_biqa.types import Batch, Chat, ask


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
