"""What supervised fine-tuning teaches: from rows of a batch to chats and their answers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lit_biqa.text import prompts
from lit_biqa.text.levels import level_of
from lit_biqa.text.parsing import answered, tagged, wrapped
from lit_biqa.types import Batch, Chat, Message, Sample, ask


@dataclass(frozen=True, eq=False)
class Example:
    """A chat and the answer to be learned.

    Attributes:
        chat: up to where the assistant speaks.
        answer: what it shall say.
        level: the level word at the end of the answer, empty where there is none.
        row: of the batch.
    """

    chat: Chat
    answer: str
    level: str
    row: int


class Task(ABC):
    """Makes examples of the rows that suit it.

    Attributes:
        sees_image: whether images are opened at all.
    """

    sees_image: bool = True

    @abstractmethod
    def suits(self, sample: Sample) -> bool:
        """Whether this task can be learned from a sample."""

    def shows(self, sample: Sample) -> bool:
        """Whether the image of a sample is shown in each of its examples."""
        return self.sees_image and sample.path is not None

    @abstractmethod
    def example(self, batch: Batch, row: int, step: int) -> Example:
        """The example of a row; ``step`` numbers the training step, for what varies."""

    def examples(self, batch: Batch, step: int = 0) -> list[Example]:
        """The examples of all rows of a batch."""
        return [self.example(batch, row, step) for row in range(len(batch["index"]))]


class Describe(Task):
    """Stage one: from an image to the description of its quality.

    Args:
        question: what is asked; ``None`` asks what the file of conversations asks.

    Source: Building Reasonable Inference for VLMs in BIQA, section 3.4.
    """

    def __init__(self, question: str | None = prompts.DESCRIBE) -> None:
        self.question = question

    def suits(self, sample: Sample) -> bool:
        """With a text, and a question from here or there."""
        return bool(sample.texts) and (self.question is not None or bool(sample.prompts))

    def example(self, batch: Batch, row: int, step: int) -> Example:
        """See `Task`."""
        return Example(asked(batch, row, self.question), batch["text"][row], "", row)


class Conclude(Task):
    """Stage two: from a description alone to the word for the quality.

    Source: Building Reasonable Inference for VLMs in BIQA, section 3.4.
    """

    sees_image = False

    def suits(self, sample: Sample) -> bool:
        """With a description and a known quality."""
        return bool(sample.texts) and math.isfinite(sample.mos)

    def example(self, batch: Batch, row: int, step: int) -> Example:
        """See `Task`."""
        level = level_of(float(batch["mos"][row]))
        chat = ask(prompts.conclude(batch["text"][row]), opening=prompts.QUALITY_OPENING)
        return Example(chat, f"{level}.", level, row)


class DescribeAndConclude(Describe):
    """The one-stage baseline: from an image to description and conclusion in one answer.

    The conclusion is the one of the text; where it has none, it names the level of the MOS.

    Args:
        question: what is asked; ``None`` asks what the file of conversations asks.

    Source: Building Reasonable Inference for VLMs in BIQA, section 3.2.
    """

    def __init__(self, question: str | None = prompts.PATHWAY) -> None:
        super().__init__(question)

    def suits(self, sample: Sample) -> bool:
        """With a text and a conclusion or a known quality."""
        return super().suits(sample) and (any(sample.conclusions) or math.isfinite(sample.mos))

    def example(self, batch: Batch, row: int, step: int) -> Example:
        """See `Task`."""
        described, concluded = batch["text"][row], batch["conclusion"][row]
        chat = asked(batch, row, self.question)
        if concluded:
            return Example(chat, f"{described} {concluded}".strip(), "", row)
        level = level_of(float(batch["mos"][row]))
        return Example(chat, f"{described} {prompts.QUALITY_OPENING} {level}.".strip(), level, row)


class Converse(Task):
    """Instruction tuning as the file has it: its questions and its answers, images where it has."""

    def suits(self, sample: Sample) -> bool:
        """With questions and answers."""
        return bool(sample.texts) and bool(sample.prompts)

    def example(self, batch: Batch, row: int, step: int) -> Example:
        """See `Task`."""
        answer = f"{batch['text'][row]} {batch['conclusion'][row]}".strip()
        return Example(asked(batch, row, None), answer, "", row)


Form = Literal["score", "caption", "both", "test", "explain", "text"]


class Imitate(Task):
    """A cold start for reinforcement learning: texts of a reasoning model, with the MOS as rating.

    The texts hold a caption and reasoning in their tags (``perception_text:caption+think``). Each
    step asks for one of the forms that paradigms ask for.

    Args:
        forms: ``score``, reasoning and rating from the image; ``caption``, the caption alone;
            ``both``, caption, reasoning and rating; ``test``, the same in the words of the papers'
            test; ``explain``, caption and reasoning without tags, from image and MOS; ``text``,
            reasoning and rating from the caption alone. A form that stands here twice is asked
            for twice as often.

    Source: ours; the papers start from models that were tuned on instructions.
    """

    def __init__(self, forms: Sequence[Form] = ("score",)) -> None:
        self.forms = forms
        self.sees_image = any(form != "text" for form in forms)

    def suits(self, sample: Sample) -> bool:
        """With a known MOS and tagged texts."""
        tags = (tagged(text, tag) for text in sample.texts for tag in ("caption", "think"))
        return bool(sample.texts) and all(tags) and math.isfinite(sample.mos)

    def shows(self, sample: Sample) -> bool:
        """See `Task`; the form ``text`` shows none."""
        return super().shows(sample) and "text" not in self.forms

    def example(self, batch: Batch, row: int, step: int) -> Example:
        """See `Task`; the form follows from step and image."""
        form = self.forms[_drawn(batch, row, step, len(self.forms))]
        text, mos = batch["text"][row], batch["samples"][row].mos
        said, thought = (tagged(text, tag) or "" for tag in ("caption", "think"))
        caption = wrapped("caption", said)
        rated = f"{wrapped('think', thought)}\n{answered(mos)}"
        asked, system, answer = {
            "score": (prompts.SCORE, prompts.R1_SYSTEM, rated),
            "caption": (prompts.CHAIN_OF_THOUGHT, prompts.CHAIN_OF_THOUGHT_SYSTEM, caption),
            "both": (prompts.TEST_SCORE, prompts.SELF_CONSISTENCY_SYSTEM, f"{caption}\n{rated}"),
            "test": (prompts.TEST_SCORE, prompts.TEST_SYSTEM, f"{caption}\n{rated}"),
            "explain": (prompts.explain(mos), "", f"{said} {thought}"),
            "text": (prompts.second_pass(caption), prompts.R1_SYSTEM, rated),
        }[form]
        pixels = None if form == "text" else pixels_of(batch, row)
        return Example(ask(asked, pixels, system), answer, "", row)


class NameLevel(Task):
    """Q-Align: from an image to one of five words, by its MOS.

    Args:
        questions: one of them is asked at random; the first in a test.

    Source: Q-Align (Wu et al., 2024), section 3.
    """

    def __init__(self, questions: tuple[str, ...] = prompts.QALIGN_QUESTIONS) -> None:
        self.questions = questions

    def suits(self, sample: Sample) -> bool:
        """With a known MOS."""
        return math.isfinite(sample.mos)

    def example(self, batch: Batch, row: int, step: int) -> Example:
        """See `Task`; the question follows from step and image."""
        level = level_of(float(batch["mos"][row]))
        question = self.questions[_drawn(batch, row, step, len(self.questions))]
        chat = ask(question, pixels_of(batch, row))
        return Example(chat, f"{prompts.QUALITY_OPENING} {level}.", level, row)


def pixels_of(batch: Batch, row: int) -> Tensor | None:
    """Pixels of a row, ``None`` where it has no image."""
    pixels: Tensor | None = batch["pixels"][row]
    return pixels


def asked(batch: Batch, row: int, question: str | None) -> Chat:
    """A question about the image of a row, the file's own where there is none."""
    pixels = pixels_of(batch, row)
    if question is not None:
        return ask(question, pixels)
    messages: tuple[Message, ...] = batch["prompt"][row]
    return Chat(messages, pixels)


def _drawn(batch: Batch, row: int, step: int, count: int) -> int:
    """A number below ``count`` that follows from step and image."""
    seed = step * 1_000_003 + int(batch["index"][row])
    return int(torch.randint(count, (), generator=torch.Generator().manual_seed(seed)))
