"""Paradigms whose second pass rates the text of the first without the image."""

from __future__ import annotations

from collections.abc import Sequence

from lit_biqa.paradigms.base import Paradigm, RewardCredit
from lit_biqa.paradigms.question import Question
from lit_biqa.rewards import CosineScore, Format, Rouge1, SecondPass, Slot
from lit_biqa.tasks import pixels_of
from lit_biqa.text import prompts
from lit_biqa.text.parsing import before_think, without_answer
from lit_biqa.types import Batch, Chat, Sample, ask

DESCRIBED = ("caption", "think", "answer")


class ChainOfThought(Question):
    """Description of the image in the first pass, and M ratings of it in the second.

    A caption earns the mean reward of its M ratings (equations 1 to 3). Each rating is compared
    with the other ratings of its caption.

    Args:
        score: reward of the ratings.
        format: reward of their format.
        system: system prompt of the first pass.
        question: question about the image.
        group: G, captions of each image.
        second: M, ratings of each caption.
        update_pass1: α of table II.
        update_pass2: β of table II.

    Source: *Understanding Pure Textual Reasoning*. Its released code handed no caption on and took
    no gradient, so its table says nothing about this paradigm.
    """

    def __init__(
        self,
        score: Slot = Slot(SecondPass(CosineScore())),
        format: Slot = Slot(SecondPass(Format()), 0.5),
        system: str = prompts.CHAIN_OF_THOUGHT_SYSTEM,
        question: str = prompts.CHAIN_OF_THOUGHT,
        group: int = 4,
        second: int = 4,
        update_pass1: bool = True,
        update_pass2: bool = True,
    ) -> None:
        slots = {"score": score, "format": format}
        super().__init__(slots, system, question, group, second, update_pass1, update_pass2)

    def extract_caption(self, text: str) -> str | None:
        """Completion without an answer, which would hold the rating."""
        return without_answer(text) or None


class Autoencoder(Paradigm):
    """Explanation of a given MOS in the first pass, and its recovery in the second (equation 5).

    For a score, the MOS is masked as "some score".

    Args:
        score: reward of the rating.
        format: reward of its format.
        system: system prompt of the first pass; empty for none.
        group: G, explanations of each image.
        second: M, ratings of each explanation.
        update_pass1: true if the explanation contributes to the loss; see the note on table II.
        update_pass2: true if the rating does.

    Source: *Understanding Pure Textual Reasoning*. Table II swaps the labels of this paradigm's
    rows relative to equation 5: its row "α = 0, β = 1" is ``update_pass1`` alone, its row "α = 1, β
    = 0" is ``update_pass2`` alone.
    """

    def __init__(
        self,
        score: Slot = Slot(SecondPass(CosineScore())),
        format: Slot = Slot(SecondPass(Format("prefix")), 0.5),
        system: str = prompts.AUTOENCODER_SYSTEM,
        group: int = 4,
        second: int = 1,
        update_pass1: bool = True,
        update_pass2: bool = True,
    ) -> None:
        slots = {"score": score, "format": format}
        super().__init__(slots, group, second, update_pass1, update_pass2)
        self.system = system

    def first(self, batch: Batch, row: int, masked: bool = False) -> Chat:
        """See `Paradigm`."""
        mos = None if masked else batch["samples"][row].mos
        return ask(prompts.explain(mos), pixels_of(batch, row), self.system)

    def extract_caption(self, text: str) -> str | None:
        """Completion without an answer."""
        return without_answer(text) or None


class SelfConsistency(Question):
    """Description, reasoning and rating in one answer; the second pass rates the description.

    Args:
        score: reward of the rating that saw the image.
        format: reward of the first answer's format.
        consistency: reward of the rating that saw the description.
        system: system prompt of the first pass.
        question: question about the image.
        group: G, answers to each image.
        second: M, ratings of each description.
        update_pass1: α of table II.
        update_pass2: β of table II.
        reward_credit: see `Paradigm`.

    Source: *Understanding Pure Textual Reasoning*, equation 4.
    """

    def __init__(
        self,
        score: Slot = Slot(CosineScore(), credit="rating"),
        format: Slot = Slot(Format(tags=DESCRIBED), 0.5),
        consistency: Slot = Slot(SecondPass(CosineScore()), credit="reasoning"),
        system: str = prompts.SELF_CONSISTENCY_SYSTEM,
        question: str = prompts.TEST_SCORE,
        group: int = 4,
        second: int = 1,
        update_pass1: bool = True,
        update_pass2: bool = False,
        reward_credit: RewardCredit = "shared",
    ) -> None:
        slots = {"score": score, "format": format, "consistency": consistency}
        passes = (group, second, update_pass1, update_pass2)
        super().__init__(slots, system, question, *passes, reward_credit)

    def extract_caption(self, text: str) -> str | None:
        """Text before ``<think>``; ``None`` if it is empty or the tag is missing."""
        return (before_think(text) or "").strip() or None


class HumanAligned(SelfConsistency):
    """`SelfConsistency` with a reward for agreement with human-written texts about the image.

    References are the texts of the data (`data.texts`): the best of an image's counts.

    Args:
        score: reward of the rating that saw the image.
        format: reward of the first answer's format.
        consistency: reward of the rating that saw the description.
        human: reward of description and reasoning.
        system: system prompt of the first pass.
        group: G, answers to each image.
        second: M, ratings of each description.
        update_pass1: true if the first answer contributes to the loss.
        update_pass2: true if the rating of the description does.
        reward_credit: see `Paradigm`.

    Source: *Guiding Perception-Reasoning Closer to Human*, whose abstract names the four rewards;
    it publishes neither weights nor prompts.
    """

    def __init__(
        self,
        score: Slot = Slot(CosineScore(), credit="rating"),
        format: Slot = Slot(Format(tags=DESCRIBED), 0.5),
        consistency: Slot = Slot(SecondPass(CosineScore()), credit="reasoning"),
        human: Slot = Slot(Rouge1(), credit="reasoning"),
        system: str = prompts.HUMAN_ALIGNED_SYSTEM,
        group: int = 4,
        second: int = 1,
        update_pass1: bool = True,
        update_pass2: bool = False,
        reward_credit: RewardCredit = "shared",
    ) -> None:
        self.human = human
        passes = (group, second, update_pass1, update_pass2)
        question = prompts.TEST_SCORE
        super().__init__(score, format, consistency, system, question, *passes, reward_credit)
        self.slots["human"] = human

    def suited(self, samples: Sequence[Sample]) -> list[Sample]:
        """Samples with human-written texts."""
        return [sample for sample in super().suited(samples) if sample.texts]
