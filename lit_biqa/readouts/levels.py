"""Scores from level words: from their probabilities, or from the word in an answer."""

from __future__ import annotations

import math
from abc import abstractmethod

from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.readouts.base import GREEDY, Readout, Verdict, answers_to
from lit_biqa.readouts.words import FIVE, Words
from lit_biqa.rollout.engine import ChatModel, Sampling
from lit_biqa.tasks import pixels_of
from lit_biqa.text import prompts
from lit_biqa.text.conclusions import decompose
from lit_biqa.types import Batch, Chat, ask

_MARKS = " \t\r\n.!\"'*"  # around an answer of one word


class WordReadout(Readout):
    """Readout of one condition that reads the probabilities of a word set.

    Args:
        words: the word set.
        condition: name of its rows in results.
        at_once: chats that the model runs together.
    """

    def __init__(self, words: Words, condition: str, at_once: int) -> None:
        self.words, self.at_once = words, at_once
        self.condition, self.conditions = condition, (condition,)

    def check(self, model: VisionLanguageModel) -> None:
        """See `Words.tokens`."""
        self.words.tokens(model)

    def read(self, model: ChatModel, batch: Batch) -> dict[str, list[Verdict]]:
        """See `Readout`."""
        chats, texts = self.chats(model, batch)
        probabilities = self.words.judge(model, chats, self.at_once)
        return {self.condition: self.words.verdicts(probabilities, texts)}

    @abstractmethod
    def chats(self, model: ChatModel, batch: Batch) -> tuple[list[Chat], list[str]]:
        """Chat of each row whose next token is the word, and the text before the word."""


class LevelLogits(WordReadout):
    """Probabilities of a word set after a question about the image.

    Args:
        question: question about the image.
        words: the word set.
        condition: name of its rows in results.
        at_once: chats that the model runs together.

    Source: Q-Align (Wu et al., 2024), section 3.3; Q-Instruct (Wu et al., 2024), section 5.
    """

    def __init__(
        self,
        question: str = prompts.QALIGN_TEST_QUESTION,
        words: Words = Words(),
        condition: str = "image",
        at_once: int = 16,
    ) -> None:
        super().__init__(words, condition, at_once)
        self.question = question

    def chats(self, model: ChatModel, batch: Batch) -> tuple[list[Chat], list[str]]:
        """See `WordReadout`."""
        pixels = [pixels_of(batch, row) for row in range(len(batch["index"]))]
        opening = self.words.opening
        return [ask(self.question, image, opening=opening) for image in pixels], [""] * len(pixels)


class FromDescription(WordReadout):
    """Probabilities of a word set after a description in the data, without the image.

    Args:
        words: the word set.
        condition: name of its rows in results.
        at_once: chats that the model runs together.
    """

    sees_image = False

    def __init__(
        self, words: Words = Words(), condition: str = "description", at_once: int = 16
    ) -> None:
        super().__init__(words, condition, at_once)

    def chats(self, model: ChatModel, batch: Batch) -> tuple[list[Chat], list[str]]:
        """See `WordReadout`."""
        return [concluding(text, self.words) for text in batch["text"]], [""] * len(batch["text"])

    def read(self, model: ChatModel, batch: Batch) -> dict[str, list[Verdict]]:
        """See `Readout`; a row without a description has no score."""
        verdicts = super().read(model, batch)[self.condition]
        none = Verdict(math.nan, status="no description")
        pairs = zip(verdicts, batch["text"], strict=True)
        return {self.condition: [verdict if text else none for verdict, text in pairs]}


class DescribingReadout(WordReadout):
    """Readout that first has the model describe the image.

    Args:
        question: request for the description; ``None`` takes the class's own.
        words: the word set.
        sampling: sampling of the description.
        condition: name of its rows in results; ``None`` takes the class's own.
        at_once: chats that the model runs together.
        seed: seed of sampling.
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

    def describe(self, model: ChatModel, batch: Batch) -> list[str]:
        """Description of each image by the model."""
        return answers_to(model, batch, self.question, self.sampling, self.at_once, self.seed)


class TwoPass(DescribingReadout):
    """Two-stage inference: image to description, then description to word without the image.

    Source: Building Reasonable Inference for VLMs in BIQA, section 3.4.
    """

    asks, named = prompts.DESCRIBE, "two-pass"

    def chats(self, model: ChatModel, batch: Batch) -> tuple[list[Chat], list[str]]:
        """See `WordReadout`."""
        texts = self.describe(model, batch)
        return [concluding(text, self.words) for text in texts], texts


class OnePass(DescribingReadout):
    """One-stage inference: the model's description of the image, then the word in the same answer.

    The answer is cut before its conclusion, the opening of a conclusion is added, and the word set
    is read after it.
    """

    asks, named = prompts.PATHWAY, "one-pass"

    def chats(self, model: ChatModel, batch: Batch) -> tuple[list[Chat], list[str]]:
        """See `WordReadout`."""
        texts = self.describe(model, batch)
        chats = []
        for row, text in enumerate(texts):
            opening = f"{decompose(text).description} {self.words.opening}".strip()
            chats.append(ask(self.question, pixels_of(batch, row), opening=opening))
        return chats, texts


class GeneratedWord(Readout):
    """Level that the answer of the model concludes.

    Args:
        question: question about the image.
        sampling: sampling of the answer.
        condition: name of its rows in results.
        at_once: chats that the model runs together.
        seed: seed of sampling.
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
        """Accept any backbone."""

    def read(self, model: ChatModel, batch: Batch) -> dict[str, list[Verdict]]:
        """See `Readout`; an answer without a conclusion has no score."""
        texts = answers_to(model, batch, self.question, self.sampling, self.at_once, self.seed)
        return {self.condition: [spoken(text) for text in texts]}


def concluding(description: str, words: Words) -> Chat:
    """Text-only question about a description."""
    return ask(prompts.conclude(description), opening=words.opening)


def spoken(text: str, opening: str = "") -> Verdict:
    """Verdict of an answer: its conclusion, or the level if the answer is one word.

    A level word elsewhere is no verdict: "the clarity is good" does not judge the image. Two-stage
    inference reads no such word either. The level is then empty, and studies count the answer as
    out of vocabulary.

    Args:
        text: the answer.
        opening: beginning that the answer continues.

    Example:
        >>> spoken("good.", "The quality of the image is").score
        4.0
        >>> spoken("The clarity of the image is good.").status
        'no conclusion in the answer'
    """
    whole, word = f"{opening} {text}".strip(), text.strip(_MARKS).lower()
    level = word if word in FIVE else decompose(whole).level
    if level is None:
        return Verdict(math.nan, whole, status="no conclusion in the answer")
    return Verdict(FIVE[level], whole, level)
