"""Tasks of supervised fine-tuning: from the rows of a batch to chats and target answers."""

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
from lit_biqa.types import Batch, Chat, InputError, Message, Sample, ask, check_range


@dataclass(frozen=True, eq=False)
class Example:
    """A chat and its target answer.

    Attributes:
        chat: conversation up to the assistant's turn.
        answer: target text.
        level: level word at the end of the answer; empty if there is none.
        row: row in the batch.
    """

    chat: Chat
    answer: str
    level: str
    row: int


class Task(ABC):
    """Makes examples from the rows of a batch.

    Attributes:
        sees_image: true if the task reads images at all.
    """

    sees_image: bool = True

    @abstractmethod
    def suits(self, sample: Sample) -> bool:
        """True if a sample has what this task needs."""

    def shows(self, sample: Sample) -> bool:
        """True if each example of the sample shows its image."""
        return self.sees_image and sample.path is not None

    @abstractmethod
    def example(self, batch: Batch, row: int, step: int) -> Example:
        """Example of a row; ``step``, the number of the training step, seeds random choices."""

    def examples(self, batch: Batch, step: int = 0) -> list[Example]:
        """Examples of all rows of a batch."""
        return [self.example(batch, row, step) for row in range(len(batch["index"]))]


class Describe(Task):
    """Stage one: from an image to a description of its quality.

    Args:
        question: the question; ``None`` takes the question of the file of conversations.

    Source: Building Reasonable Inference for VLMs in BIQA, section 3.4.
    """

    def __init__(self, question: str | None = prompts.DESCRIBE) -> None:
        self.question = question

    def suits(self, sample: Sample) -> bool:
        """True for a sample with a text, and a question here or in its file."""
        return bool(sample.texts) and (self.question is not None or bool(sample.prompts))

    def example(self, batch: Batch, row: int, step: int) -> Example:
        """See `Task`."""
        return Example(asked(batch, row, self.question), batch["text"][row], "", row)


class Conclude(Task):
    """Stage two: from a description alone to the level word.

    Source: Building Reasonable Inference for VLMs in BIQA, section 3.4.
    """

    sees_image = False

    def suits(self, sample: Sample) -> bool:
        """True for a sample with a description and a MOS."""
        return bool(sample.texts) and math.isfinite(sample.mos)

    def example(self, batch: Batch, row: int, step: int) -> Example:
        """See `Task`."""
        level = level_of(float(batch["mos"][row]))
        chat = ask(prompts.conclude(batch["text"][row]), opening=prompts.QUALITY_OPENING)
        return Example(chat, f"{level}.", level, row)


class DescribeAndConclude(Describe):
    """One-stage baseline: from an image to description and conclusion in one answer.

    Args:
        question: the question; ``None`` takes the question of the file of conversations.
        conclusion: ``level`` ends with the level of the MOS, the very word that `Conclude` learns,
            so that one and two stages compare like for like (the MOS of a feedback is that of its
            own conclusion: "average" is "fair"); ``own`` ends with the text's own conclusion. Each
            takes the other where a sample has no MOS, or a text no conclusion.

    Source: Building Reasonable Inference for VLMs in BIQA, section 3.2.
    """

    def __init__(
        self,
        question: str | None = prompts.PATHWAY,
        conclusion: Literal["level", "own"] = "level",
    ) -> None:
        super().__init__(question)
        self.conclusion = conclusion

    def suits(self, sample: Sample) -> bool:
        """True for a sample with a text, and a conclusion or a MOS."""
        return super().suits(sample) and (any(sample.conclusions) or math.isfinite(sample.mos))

    def example(self, batch: Batch, row: int, step: int) -> Example:
        """See `Task`."""
        described, concluded = batch["text"][row], batch["conclusion"][row]
        chat, mos = asked(batch, row, self.question), float(batch["mos"][row])
        if concluded and (self.conclusion == "own" or not math.isfinite(mos)):
            return Example(chat, f"{described} {concluded}".strip(), "", row)
        level = level_of(mos)
        return Example(chat, f"{described} {prompts.QUALITY_OPENING} {level}.".strip(), level, row)


class Alternate(Task):
    """Several tasks, which steps take in turn.

    With ``[Conclude, Describe]`` stage two rehearses stage one: a small model that learns to
    conclude alone forgets within some hundred steps how to describe. Validation uses the first.

    Args:
        tasks: the tasks; one that is listed twice is used twice as often.

    Raises:
        InputError: if there is none.

    Source: ours.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        if not tasks:
            raise InputError("Alternate: name at least one of the tasks")
        self.tasks = tasks
        self.sees_image = any(task.sees_image for task in tasks)

    def suits(self, sample: Sample) -> bool:
        """True for a sample that suits all tasks."""
        return all(task.suits(sample) for task in self.tasks)

    def shows(self, sample: Sample) -> bool:
        """See `Task`."""
        return all(task.shows(sample) for task in self.tasks)

    def example(self, batch: Batch, row: int, step: int) -> Example:
        """See `Task`; the step determines the task."""
        return self.tasks[step % len(self.tasks)].example(batch, row, step)


class Converse(Task):
    """Instruction tuning on a file's own questions and answers, with its images."""

    def suits(self, sample: Sample) -> bool:
        """True for a sample with questions and answers."""
        return bool(sample.texts) and bool(sample.prompts)

    def example(self, batch: Batch, row: int, step: int) -> Example:
        """See `Task`."""
        answer = f"{batch['text'][row]} {batch['conclusion'][row]}".strip()
        return Example(asked(batch, row, None), answer, "", row)


Form = Literal["answer", "score", "caption", "both", "test", "test_image_first", "explain", "text"]


class Imitate(Task):
    """Cold start for reinforcement learning: texts of a reasoning model, with the MOS as rating.

    The texts hold caption and reasoning in their tags (``perception_text:caption+think``). The form
    ``answer`` alone needs none: it is supervised fine-tuning to write the MOS (Reasoning as
    Representation, table A.1, Qwen-SFT, of which the paper gives neither prompt nor target). Steps
    take the forms in turn, which are prompts that paradigms use: the rows of a batch are then of
    similar length. Validation uses the first form.

    Args:
        forms: ``answer``, the rating alone from the image; ``score``, reasoning and rating;
            ``caption``, the caption alone; ``both``, caption, reasoning and rating, with
            our prompt of Self-Consistency; ``test``, the
            same with the prompts of the papers' test, whose image comes last;
            ``test_image_first``, with the image before the text, which is the prompt of
            `lit_biqa.paradigms.HumanAligned`; ``explain``, caption and reasoning without tags, from
            image and MOS; ``text``, reasoning and rating from the caption alone. A form that is
            listed twice is used twice as often.
        spread: standard deviation of the rating around the MOS, which each step draws anew. With 0
            a model of few images learns their MOS by heart, digit by digit; with the spread of
            people's opinions it learns a distribution (as DeQA-Score does for levels).

    Source: ours; the papers start from instruction-tuned models.
    """

    def __init__(self, forms: Sequence[Form] = ("score",), spread: float = 0.0) -> None:
        check_range("task.spread", spread, 0, 4)
        self.forms, self.spread = forms, spread
        self.sees_image = any(form != "text" for form in forms)

    def suits(self, sample: Sample) -> bool:
        """True for a sample with a MOS and, unless ratings alone are written, tagged texts."""
        if set(self.forms) == {"answer"}:
            return math.isfinite(sample.mos)
        tags = (tagged(text, tag) for text in sample.texts for tag in ("caption", "think"))
        return bool(sample.texts) and all(tags) and math.isfinite(sample.mos)

    def shows(self, sample: Sample) -> bool:
        """See `Task`; the form ``text`` shows no image."""
        return super().shows(sample) and "text" not in self.forms

    def example(self, batch: Batch, row: int, step: int) -> Example:
        """See `Task`; the step determines the form."""
        form = self.forms[step % len(self.forms)]
        text, mos = batch["text"][row], batch["samples"][row].mos
        rating = self._rating(batch, row, step)
        caption_text, thought = (tagged(text, tag) or "" for tag in ("caption", "think"))
        caption = wrapped("caption", caption_text)
        rated = reasoned(thought, rating)
        described = f"{caption}\n{rated}"
        asked, system, answer = {
            "answer": (prompts.SCORE, prompts.ANSWER_ONLY_SYSTEM, answered(rating)),
            "score": (prompts.SCORE, prompts.R1_SYSTEM, rated),
            "caption": (prompts.CHAIN_OF_THOUGHT, prompts.CHAIN_OF_THOUGHT_SYSTEM, caption),
            "both": (prompts.TEST_SCORE, prompts.SELF_CONSISTENCY_NO_NUMBERS_SYSTEM, described),
            "test": (prompts.TEST_QUESTION, prompts.TEST_SYSTEM, described),
            "test_image_first": (prompts.TEST_SCORE, prompts.TEST_SYSTEM, described),
            "explain": (prompts.explain(mos), "", f"{caption_text} {thought}"),
            "text": (prompts.second_pass(caption), prompts.R1_SYSTEM, rated),
        }[form]
        pixels = None if form == "text" else pixels_of(batch, row)
        return Example(ask(asked, pixels, system), answer, "", row)

    def _rating(self, batch: Batch, row: int, step: int) -> float:
        """MOS of a row, moved by the spread and kept on the scale."""
        mos: float = batch["samples"][row].mos
        if not self.spread:
            return mos
        moved = torch.randn((), generator=_generator(batch, row, step)).item()
        return min(max(mos + self.spread * moved, 1.0), 5.0)


class Reason(Describe):
    """RACT's cross-domain tuning: from an image to a reasoning about its quality.

    The reasonings come from models that were trained by reinforcement, one for each data set; the
    trained model is one of them. ``data.texts.fields: ["texts:think"]`` reads them from the files
    that ``lit_biqa describe`` writes.

    Args:
        question: the question.
        scored: data sets of which every second step learns the MOS as well: reasoning and rating,
            with the prompt of `lit_biqa.paradigms.Score`. The paper finds none to be best.

    Source: Reasoning as Representation, section 3.3 and tables 5 and A.4.
    """

    def __init__(self, question: str = prompts.RACT, scored: Sequence[str] = ()) -> None:
        super().__init__(question)
        self.scored = frozenset(scored)

    def example(self, batch: Batch, row: int, step: int) -> Example:
        """See `Task`."""
        mos = float(batch["mos"][row])
        if step % 2 == 0 or batch["dataset"][row] not in self.scored or not math.isfinite(mos):
            return super().example(batch, row, step)
        chat = ask(prompts.SCORE, pixels_of(batch, row), prompts.R1_SYSTEM)
        return Example(chat, reasoned(batch["text"][row], mos), "", row)


class NameLevel(Task):
    """Q-Align: from an image to one of five level words, by its MOS.

    Args:
        questions: questions to draw from. `lit_biqa.readouts.levels.LevelLogits` asks the first,
            with the image behind it, as the released codes test.

    Source: Q-Align (Wu et al., 2024), section 3.
    """

    def __init__(self, questions: tuple[str, ...] = prompts.QALIGN_QUESTIONS) -> None:
        self.questions = questions

    def suits(self, sample: Sample) -> bool:
        """True for a sample with a MOS."""
        return math.isfinite(sample.mos)

    def example(self, batch: Batch, row: int, step: int) -> Example:
        """See `Task`; step and image determine the question."""
        level = level_of(float(batch["mos"][row]))
        question = self.questions[_drawn(batch, row, step, len(self.questions))]
        chat = ask(question, pixels_of(batch, row))
        return Example(chat, f"{prompts.QUALITY_OPENING} {level}.", level, row)


def pixels_of(batch: Batch, row: int) -> Tensor | None:
    """Pixels of a row; ``None`` if it has no image."""
    pixels: Tensor | None = batch["pixels"][row]
    return pixels


def asked(batch: Batch, row: int, question: str | None) -> Chat:
    """Question about the image of a row; the file's own question if ``question`` is ``None``."""
    pixels = pixels_of(batch, row)
    if question is not None:
        return ask(question, pixels)
    messages: tuple[Message, ...] = batch["prompt"][row]
    return Chat(messages, pixels)


def reasoned(thought: str, mos: float) -> str:
    """Answer to Score's question: reasoning, then the rating, each in its tags."""
    return f"{wrapped('think', thought)}\n{answered(mos)}"


def _drawn(batch: Batch, row: int, step: int, count: int) -> int:
    """Number below ``count`` that depends on step and image only."""
    return int(torch.randint(count, (), generator=_generator(batch, row, step)))


def _generator(batch: Batch, row: int, step: int) -> torch.Generator:
    """Generator whose seed is step and image."""
    return torch.Generator().manual_seed(step * 1_000_003 + int(batch["index"][row]))
