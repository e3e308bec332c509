"""The words every room shares: samples, batches, predictions and the one error for bad input."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:  # Commands that only read files start without torch.
    from torch import Tensor


class InputError(ValueError):
    """Something a person gave is wrong. The message says what, where, and what to do next.

    The command line prints it as one line, without a traceback, and exits with status 2.
    """


class TrainingError(RuntimeError):
    """A fit cannot go on. The message says in one line at which step, why, and what to do next.

    The command line prints it without a traceback, and exits with status 1.
    """


IMAGE = "<|image|>"
"""Where the image stands in a message, whichever way a file or a model spells it."""

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """What one side of a conversation says.

    Attributes:
        role: ``system``, ``user`` or ``assistant``.
        text: ends stripped; holds `IMAGE` where the image stands.
    """

    role: Role
    text: str


@dataclass(frozen=True)
class Sample:
    """One image, or conversation, and what its data set says of it.

    Attributes:
        dataset: catalogue name, such as ``koniq10k``, or the stem of a user's own CSV.
        split: name of the split it was taken from, such as ``official`` or ``random-0``.
        index: its row in the data set, the same in every split; identifies it in results.
        name: file name as the label file writes it.
        path: where the image lies; ``None`` for text alone, and where no image is looked for.
        mos: mean opinion score on [1, 5], 5 best; ``nan`` where unknown.
        std: standard deviation of single ratings on the same scale; ``nan`` where unknown.
        reference: name of the pristine source, for data sets that have one.
        texts: texts about this image, such as reasoning sampled from a trained model.
        prompts: what was said before each of the texts; empty where nobody asked.
        conclusions: the sentence that concluded the quality after each of the texts, an empty one
            where none did; empty where texts were not taken apart.
        degradation: class and severity of its distortion, where that is what is known of it.
    """

    dataset: str
    split: str
    index: int
    name: str
    path: Path | None
    mos: float = math.nan
    std: float = math.nan
    reference: str | None = None
    texts: tuple[str, ...] = ()
    prompts: tuple[tuple[Message, ...], ...] = ()
    conclusions: tuple[str, ...] = ()
    degradation: tuple[str, str] | None = None


class Samples:
    """The samples of a batch, row by row: ``batch["samples"][2].mos`` is the exact MOS of row 2.

    It is no `Sequence` and no dataclass. Lightning, DDP and pinned memory look into those for
    tensors and refuse frozen dataclasses; any other object they pass on as it is.

    Args:
        samples: one for each row.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = tuple(samples)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, row: int) -> Sample:
        return self._samples[row]


@dataclass(frozen=True, eq=False)
class Chat:
    """A conversation up to where the model is to speak; what backbones encode.

    Attributes:
        messages: by turns, the last one the user's. One user message holds `IMAGE` once if there
            are pixels, else none does.
        pixels: of the image, as the backbone's transform made them; ``None`` for text alone.
        opening: the beginning of the answer, given to the model, such as "The quality is".

    Raises:
        ValueError: if the user does not speak last, or image and placeholder do not pair up.
    """

    messages: tuple[Message, ...]
    pixels: Tensor | None = None
    opening: str = ""

    def __post_init__(self) -> None:
        if not self.messages or self.messages[-1].role != "user":
            raise ValueError("the last message of a chat is the user's")
        places = sum(message.text.count(IMAGE) for message in self.messages)
        if places != (self.pixels is not None):
            raise ValueError(f"{places} placeholders for {int(self.pixels is not None)} images")


def ask(question: str, pixels: Tensor | None = None, system: str = "", opening: str = "") -> Chat:
    """A chat of one question, its image before the text unless the question places it.

    Args:
        question: what the user says.
        pixels: of the image, ``None`` for text alone.
        system: instruction that stands before; empty for none.
        opening: beginning of the answer, given to the model.
    """
    if pixels is not None and IMAGE not in question:
        question = f"{IMAGE}{question}"
    instruction = (Message("system", system),) if system else ()
    return Chat((*instruction, Message("user", question)), pixels, opening)


@dataclass(frozen=True)
class Completion:
    """What a model said after a chat.

    Attributes:
        ids: its tokens, the end token included where the model ended by itself.
        text: the same as text, without end token and without the chat's opening.
        finished: whether the model ended by itself, before its budget of tokens was spent.
    """

    ids: tuple[int, ...]
    text: str
    finished: bool = True


@dataclass(frozen=True)
class Group:
    """What a model said of one image, time after time: what rewards are given within.

    Attributes:
        mos: mean opinion score on [1, 5]; ``nan`` where the task is another.
        std: standard deviation of single ratings on the same scale; ``nan`` where unknown.
        dataset: catalogue name of the data set.
        index: row in the data set.
        completions: the G completions of one prompt.
        second: for each of them, what was said in a second pass that saw only its text: M
            completions, none where it had no text to hand on. Empty where there is no such pass.
        references: what people wrote about the image.
        degradation: class and severity of its distortion, where that is the task.
    """

    mos: float
    std: float
    dataset: str
    index: int
    completions: tuple[Completion, ...]
    second: tuple[tuple[Completion, ...], ...] = ()
    references: tuple[str, ...] = ()
    degradation: tuple[str, str] | None = None


class Batch(TypedDict):
    """What a DataLoader hands to a method; B samples, columns by name.

    ``samples`` holds all that is known of each row, numbers as they were read; ``mos`` and ``std``
    are the same numbers in float32, for losses on the device.

    ``pixels`` is what the backbone's transform made: ``[B, 3, H, W]`` where every image has the
    same shape, else a list, with ``None`` for rows without an image. ``text`` is one text per
    sample, empty where the sample has none; ``prompt`` is what was said before it, and
    ``conclusion`` the sentence that concluded the quality after it, empty likewise. ``status`` is
    ``ok``, or why the image could not be read (its pixels are then a stand-in).
    """

    pixels: Any
    samples: Samples
    mos: Tensor
    std: Tensor
    index: Tensor
    dataset: list[str]
    split: list[str]
    name: list[str]
    text: list[str]
    prompt: list[tuple[Message, ...]]
    conclusion: list[str]
    status: list[str]


@dataclass(frozen=True)
class Prediction:
    """One scored image: a row of ``predictions.csv`` and of every metric.

    Attributes:
        dataset: catalogue name of the data set.
        split: name of the split.
        index: row in the data set; with data set, split and condition it identifies the row.
        name: file name.
        mos: mean opinion score on [1, 5]; ``nan`` where unknown.
        score: predicted score on [1, 5]; ``nan`` where none could be made.
        condition: what the score was read from; ``image`` where nothing else is meant.
        status: ``ok``, or why there is no score.
    """

    dataset: str
    split: str
    index: int
    name: str
    mos: float
    score: float
    condition: str = "image"
    status: str = "ok"


@dataclass(frozen=True)
class TextPrediction(Prediction):
    """A scored image with what a model said of it.

    Attributes:
        level: the level word that was read, empty where none was.
        text: what the model said on the way.
        leak: whether the text that the score was read from named a rating; ``None`` where the
            score was not read from a text.
        spread: standard deviation of several readings; ``nan`` where there was one.
        seconds: that the reading took, its share of those of its batch.
    """

    level: str = ""
    text: str = ""
    leak: bool | None = None
    spread: float = math.nan
    seconds: float = math.nan


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the known names nearest to a wrong one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f". Did you mean {' or '.join(close)}?"
    return f". Known: {', '.join(names)}."


def check_range(name: str, value: float | None, least: float, most: float | None = None) -> None:
    """Refuse a number that a setting cannot have; ``None`` passes.

    Args:
        name: of the setting.
        value: that it was given.
        least: that it may be.
        most: likewise; ``None`` sets no bound.

    Raises:
        InputError: naming the setting and its range.
    """
    if value is None or (least <= value and (most is None or value <= most)):
        return
    end = "or more" if most is None else f"to {most:,}"
    raise InputError(f"{name} is {value}: give {least:,} {end}")
