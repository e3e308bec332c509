"""Paradigms whose second pass rates what the first has written, without seeing the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lit_biqa.data.annotations import annotated
from lit_biqa.paradigms.base import Paradigm, RewardCredit
from lit_biqa.rewards import CosineScore, Format, Rouge1, SecondPass, Slot
from lit_biqa.tasks import pixels_of
from lit_biqa.text import prompts
from lit_biqa.text.parsing import before_think, without_answer
from lit_biqa.types import Batch, Chat, Sample, ask

DESCRIBED = ("caption", "think", "answer")


class ChainOfThought(Paradigm):
    """The first pass describes the image; the second rates the description, M times.

    A caption earns the mean of its M ratings (equations 1 to 3). Each rating is compared with the
    others of its caption.

    Args:
        score: the reward of the ratings.
        format: the reward of their form.
        system: instruction before the first question.
        question: asked of the image.
        group: G, captions of each image.
        second: M.
        update_pass1: α of table II.
        update_pass2: β of table II.

    Source: *Understanding Pure Textual Reasoning*. Its released code handed no caption on and took
    no gradient, so its table tells nothing of this paradigm.
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
        super().__init__(slots, group, second, update_pass1, update_pass2)
        self.system, self.asked = system, question

    def first(self, batch: Batch, row: int, masked: bool = False) -> Chat:
        """See `Paradigm`."""
        return ask(self.asked, pixels_of(batch, row), self.system)

    def extract_caption(self, text: str) -> str | None:
        """All that was written; not an answer, which would hold the rating itself."""
        return without_answer(text) or None


class Autoencoder(Paradigm):
    """The first pass is told the MOS and says why; the second finds the MOS in that (equation 5).

    Where a score is wanted the MOS is masked as "some score".

    Args:
        score: the reward of the rating.
        format: the reward of its form.
        system: instruction before the first question; empty for none.
        group: G, explanations of each image.
        second: M, ratings of each.
        update_pass1: whether the explanation is learned from; see the note on table II.
        update_pass2: whether the rating is.

    Source: *Understanding Pure Textual Reasoning*. Table II swaps the labels of this paradigm's
    rows against equation 5: its row "α = 0, β = 1" is ``update_pass1`` alone, its row "α = 1,
    β = 0" is ``update_pass2`` alone.
    """

    def __init__(
        self,
        score: Slot = Slot(SecondPass(CosineScore())),
        format: Slot = Slot(SecondPass(Format()), 0.5),
        system: str = "",
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
        """All that was written, without an answer."""
        return without_answer(text) or None


class SelfConsistency(Paradigm):
    """One answer describes, thinks and rates; the second pass rates the description (equation 4).

    Args:
        score: the reward of the rating that saw the image.
        format: the reward of the first answer's form.
        consistency: the reward of the rating that saw the description.
        system: instruction before the first question.
        question: asked of the image.
        group: G, answers to each image.
        second: M, ratings of each description.
        update_pass1: α of table II.
        update_pass2: β of table II.
        reward_credit: see `Paradigm`.

    Source: *Understanding Pure Textual Reasoning*.
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
        super().__init__(slots, group, second, update_pass1, update_pass2, reward_credit)
        self.system, self.asked = system, question

    def first(self, batch: Batch, row: int, masked: bool = False) -> Chat:
        """See `Paradigm`."""
        return ask(self.asked, pixels_of(batch, row), self.system)

    def extract_caption(self, text: str) -> str | None:
        """What stands before ``<think>``; nothing where that is missing or nothing stands there."""
        return (before_think(text) or "").strip() or None


class HumanAligned(SelfConsistency):
    """`SelfConsistency` with a reward for saying what people say of the image.

    Their words are the texts of the data, or those of a file of annotations.

    Args:
        score: the reward of the rating that saw the image.
        format: the reward of the first answer's form.
        consistency: the reward of the rating that saw the description.
        human: the reward of description and reasoning.
        annotations: JSON of what people wrote, see `lit_biqa.data.annotations`; the images it
            names are those that are learned from.
        system: instruction before the first question.
        question: asked of the image.
        group: G, answers to each image.
        second: M, ratings of each description.
        update_pass1: whether the first answer is learned from.
        update_pass2: whether the rating of the description is.
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
        annotations: str | None = None,
        system: str = prompts.HUMAN_ALIGNED_SYSTEM,
        question: str = prompts.TEST_SCORE,
        group: int = 4,
        second: int = 1,
        update_pass1: bool = True,
        update_pass2: bool = False,
        reward_credit: RewardCredit = "shared",
    ) -> None:
        self.human, self.annotations = human, annotations
        super().__init__(
            score,
            format,
            consistency,
            system,
            question,
            group,
            second,
            update_pass1,
            update_pass2,
            reward_credit,
        )
        self.slots["human"] = human

    def suited(self, samples: Sequence[Sample], beside: Sequence[Sample] = ()) -> list[Sample]:
        """Those that people wrote about.

        Raises:
            InputError: if the file is absent, broken, or names an image that does not exist.
        """
        if self.annotations is not None:
            samples = annotated(samples, Path(self.annotations), beside)
        return [sample for sample in super().suited(samples) if sample.texts]
