"""Scores from level words: their probabilities, or the word that a model says."""

from __future__ import annotations

import math
import re
from abc import abstractmethod

from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.readouts.base import GREEDY, Readout, Verdict, said
from lit_biqa.readouts.words import FIVE, Words
from lit_biqa.rollout.engine import Sampling
from lit_biqa.tasks import pixels_of
from lit_biqa.text import prompts
from lit_biqa.text.conclusions import decompose
from lit_biqa.types import Batch, Chat, ask


class WordReadout(Readout):
    """A readout of one condition that ends with the probabilities of a word set.

    Args:
        words: the word set.
        condition: names these rows in results.
        at_once: chats that the model is given together.
    """

    def __init__(self, words: Words, condition: str, at_once: int) -> None:
        self.words, self.at_once = words, at_once
        self.condition, self.conditions = condition, (condition,)

    def check(self, model: VisionLanguageModel) -> None:
        """See `Words.tokens`."""
        self.words.tokens(model)

    def read(self, model: VisionLanguageModel, batch: Batch) -> dict[str, list[Verdict]]:
        """See `Readout`."""
        chats, texts = self.chats(model, batch)
        probabilities = self.words.judge(model, chats, self.at_once)
        return {self.condition: self.words.verdicts(probabilities, texts)}

    @abstractmethod
    def chats(self, model: VisionLanguageModel, batch: Batch) -> tuple[list[Chat], list[str]]:
        """For each row the chat that a word goes on from, and what was said before it."""


class LevelLogits(WordReadout):
    """From the image, the probabilities of a word set after a question.

    Args:
        question: asked of the image.
        words: the word set.
        condition: names these rows in results.
        at_once: chats that the model is given together.

    Source: Q-Align (Wu et al., 2024), section 3.3; Q-Instruct (Wu et al., 2024), section 5.
    """

    def __init__(
        self,
        question: str = prompts.QALIGN_QUESTIONS[0],
        words: Words = Words(),
        condition: str = "image",
        at_once: int = 16,
    ) -> None:
        super().__init__(words, condition, at_once)
        self.question = question

    def chats(self, model: VisionLanguageModel, batch: Batch) -> tuple[list[Chat], list[str]]:
        """See `WordReadout`."""
        pixels = [pixels_of(batch, row) for row in range(len(batch["index"]))]
        opening = self.words.opening
        return [ask(self.question, each, opening=opening) for each in pixels], [""] * len(pixels)


class FromDescription(WordReadout):
    """From a description that the data hold, no image: stage two by itself.

    Args:
        words: the word set.
        condition: names these rows in results.
        at_once: chats that the model is given together.
    """

    sees_image = False

    def __init__(
        self, words: Words = Words(), condition: str = "description", at_once: int = 16
    ) -> None:
        super().__init__(words, condition, at_once)

    def chats(self, model: VisionLanguageModel, batch: Batch) -> tuple[list[Chat], list[str]]:
        """See `WordReadout`."""
        return [concluding(text, self.words) for text in batch["text"]], [""] * len(batch["text"])

    def read(self, model: VisionLanguageModel, batch: Batch) -> dict[str, list[Verdict]]:
        """See `Readout`; a row without a description has no score."""
        found = super().read(model, batch)[self.condition]
        none = Verdict(math.nan, status="no description")
        pairs = zip(found, batch["text"], strict=True)
        return {self.condition: [verdict if text else none for verdict, text in pairs]}


class DescribingReadout(WordReadout):
    """A readout that lets the model describe the image before a word is read.

    Args:
        question: that asks for the description; ``None`` asks what the class does.
        words: the word set.
        sampling: of the description.
        condition: names these rows in results; ``None`` leaves it to the class.
        at_once: chats that the model is given together.
        seed: of the sampling.
    """

    asks: str
    named: str

    def __init__(
        self,
        question: str | None = None,
        words: Words = Words(),
        sampling: Sampling = GREEDY,
        condition: str | None = None,
        at_once: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__(words, condition or self.named, at_once)
        self.question, self.sampling, self.seed = question or self.asks, sampling, seed

    def describe(self, model: VisionLanguageModel, batch: Batch) -> list[str]:
        """What the model says of each image."""
        return said(model, batch, self.question, self.sampling, self.at_once, self.seed)


class TwoPass(DescribingReadout):
    """The paper's inference: image to description, then description to word, without the image.

    Source: Building Reasonable Inference for VLMs in BIQA, section 3.4.
    """

    asks, named = prompts.DESCRIBE, "two-pass"

    def chats(self, model: VisionLanguageModel, batch: Batch) -> tuple[list[Chat], list[str]]:
        """See `WordReadout`."""
        texts = self.describe(model, batch)
        return [concluding(text, self.words) for text in texts], texts


class OnePass(DescribingReadout):
    """The one-stage model: its own description of the image, then the word in the same answer.

    Its description is cut off before any conclusion, the opening of one is put behind it, and
    the word set is read there.
    """

    asks, named = prompts.PATHWAY, "one-pass"

    def chats(self, model: VisionLanguageModel, batch: Batch) -> tuple[list[Chat], list[str]]:
        """See `WordReadout`."""
        texts = self.describe(model, batch)
        chats = []
        for row, text in enumerate(texts):
            opening = f"{decompose(text).description} {self.words.opening}".strip()
            chats.append(ask(self.question, pixels_of(batch, row), opening=opening))
        return chats, texts


class GeneratedWord(Readout):
    """From what the model says: the level that its answer concludes.

    Args:
        question: asked of the image.
        sampling: of the answer.
        condition: names these rows in results.
        at_once: chats that the model is given together.
        seed: of the sampling.
    """

    def __init__(
        self,
        question: str = prompts.PATHWAY,
        sampling: Sampling = GREEDY,
        condition: str = "word",
        at_once: int = 16,
        seed: int = 0,
    ) -> None:
        self.question, self.sampling, self.at_once, self.seed = question, sampling, at_once, seed
        self.condition, self.conditions = condition, (condition,)

    def check(self, model: VisionLanguageModel) -> None:
        """Any backbone will do."""

    def read(self, model: VisionLanguageModel, batch: Batch) -> dict[str, list[Verdict]]:
        """See `Readout`; an answer that concludes nothing has no score."""
        texts = said(model, batch, self.question, self.sampling, self.at_once, self.seed)
        return {self.condition: [spoken(text) for text in texts]}


def concluding(description: str, words: Words) -> Chat:
    """The text-only question that a description leads to."""
    return ask(prompts.conclude(description), opening=words.opening)


def spoken(text: str) -> Verdict:
    """The verdict of an answer: its conclusion, or its only level word."""
    level = decompose(text).level
    if level is None:
        named = {word for word in re.findall(r"[a-z]+", text.lower()) if word in FIVE}
        level = named.pop() if len(named) == 1 else None
    if level is None:
        return Verdict(math.nan, text, status="no level in the answer")
    return Verdict(FIVE[level], text, level)
