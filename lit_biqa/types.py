"""Types that every room shares: samples, batches, chats, predictions, and errors."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

if TYPE_CHECKING:  # Commands that only read files start without torch.
    from torch import Tensor


class InputError(ValueError):
    """Wrong input. The message says what is wrong, where, and what to do next.

    The command line prints it as one line, without a traceback, and exits with status 2.
    """


class TrainingError(RuntimeError):
    """A fit cannot go on. The message says at which step, why, and what to do next.

    The command line prints it without a traceback, and exits with status 1.
    """


IMAGE = "<|image|>"
"""Placeholder of the image in a message, for all files and models."""

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: ``system``, ``user`` or ``assistant``.
        text: stripped text; holds `IMAGE` at the place of the image.
    """

    role: Role
    text: str


@dataclass(frozen=True)
class Sample:
    """One image, or one conversation, with its labels and texts.

    Attributes:
        dataset: catalogue name, such as ``koniq10k``, or the stem of a user's own CSV.
        split: name of its split, such as ``official`` or ``random-0``.
        index: row in the data set, the same in every split; identifies the sample in results.
        name: file name as the label file writes it.
        path: path of the image; ``None`` for text alone, and if the image is not needed.
        mos: mean opinion score on [1, 5], 5 best; ``nan`` if unknown.
        std: standard deviation of single ratings on the same scale; ``nan`` if unknown.
        groups: kind of group -> its name, such as ``{"reference": "I01.png"}`` or
            ``{"generator": "glide_normal", "prompt": "a tray of sushi"}``; the first kind is the
            default one. Empty for data sets without groups.
        texts: texts about this image, such as reasoning sampled from a trained model.
        prompts: the turns before each of the texts; empty if the texts answer no question.
        conclusions: the concluding sentence of each text, empty for a text without one; an empty
            tuple if the texts were not split.
        degradation: distortion class and severity, if the data set gives these.
    """

    dataset: str
    split: str
    index: int
    name: str
    path: Path | None
    mos: float = math.nan
    std: float = math.nan
    groups: Mapping[str, str] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    prompts: tuple[tuple[Message, ...], ...] = ()
    conclusions: tuple[str, ...] = ()
    degradation: tuple[str, str] | None = None

    @property
    def group(self) -> str:
        """Group of the default kind, such as the image's generator; empty if it has none."""
        return next(iter(self.groups.values()), "")

    @property
    def cluster(self) -> str:
        """Group that a cluster bootstrap resamples: of the kind that the split holds out, if any.

        Example: of AGIQA-3K the prompt in the split ``prompt-0``, else the generator.
        """
        kind = self.split.partition("@")[0].rpartition("-")[0]
        return self.groups.get(kind, self.group)


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

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    def __getitem__(self, row: int) -> Sample:
        return self._samples[row]


@dataclass(frozen=True, eq=False)
class Chat:
    """A conversation up to the model's turn; the input of backbones.

    Attributes:
        messages: the turns; the last is the user's. With pixels, one message holds `IMAGE` once;
            without, none does.
        pixels: image, as made by the backbone's transform; ``None`` for text alone.
        opening: beginning of the answer that is given to the model, such as "The quality is".

    Raises:
        ValueError: if the last turn is not the user's, or image and placeholder do not match.
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
    """Chat of one question, with the image before the text unless the question places it.

    Args:
        question: text of the user.
        pixels: image; ``None`` for text alone.
        system: system prompt; empty for none.
        opening: beginning of the answer that is given to the model.
    """
    if pixels is not None and IMAGE not in question:
        question = f"{IMAGE}{question}"
    instruction = (Message("system", system),) if system else ()
    return Chat((*instruction, Message("user", question)), pixels, opening)


@dataclass(frozen=True)
class Completion:
    """Text that a model generated for a chat.

    Attributes:
        ids: token ids, including the end token if the model ended by itself.
        text: decoded text, without end token and without the chat's opening.
        finished: true if the model ended by itself, false if its token budget ran out.
    """

    ids: tuple[int, ...]
    text: str
    finished: bool = True


@dataclass(frozen=True)
class Group:
    """Group of completions of one prompt, with the labels of its image; the unit of rewards.

    Attributes:
        mos: mean opinion score on [1, 5]; ``nan`` for another task.
        std: standard deviation of single ratings on the same scale; ``nan`` if unknown.
        dataset: catalogue name of the data set.
        index: row in the data set.
        completions: the G completions of one prompt.
        second: for each of them, the M completions of the second pass, which saw only its
            caption; none without a caption. Empty if there is no second pass.
        references: human-written texts about the image.
        degradation: distortion class and severity, if that is the task.
        process: rank of the process that sampled the completions.
    """

    mos: float
    std: float
    dataset: str
    index: int
    completions: tuple[Completion, ...]
    second: tuple[tuple[Completion, ...], ...] = ()
    references: tuple[str, ...] = ()
    degradation: tuple[str, str] | None = None
    process: int = 0


class Batch(TypedDict):
    """Batch of B samples from a DataLoader, columns by name.

    ``samples`` holds everything known about each row, with numbers as they were read; ``mos`` and
    ``std`` are the same numbers in float32, for losses on the device.

    ``pixels`` is the output of the backbone's transform: ``[B, 3, H, W]`` if every image has the
    same shape, else a list, with ``None`` for rows without an image. ``text`` is one text per
    sample, ``prompt`` the turns before it and ``conclusion`` its concluding sentence; each is empty
    if the sample has none. ``status`` is ``ok``, or the reason why the image could not be read (its
    pixels are then a stand-in).
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


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Batch of some rows of another."""
    columns: dict[str, Any] = {**batch, "samples": tuple(batch["samples"])}
    part: Any = {name: column[rows] for name, column in columns.items()}
    return cast(Batch, {**part, "samples": Samples(part["samples"])})


@dataclass(frozen=True)
class Prediction:
    """Predicted score of one image: a row of ``predictions.csv`` and of every metric.

    Attributes:
        dataset: catalogue name of the data set.
        split: name of the split.
        index: row in the data set; with data set, split and condition it identifies the row.
        name: file name.
        mos: mean opinion score on [1, 5]; ``nan`` if unknown.
        score: predicted score on [1, 5]; ``nan`` if there is none.
        condition: input that the score was read from; ``image`` by default.
        status: ``ok``, or the reason for the missing score.
        group: `Sample.group`, such as the image's generator; empty if it has none.
        cluster: `Sample.cluster`, the group that a cluster bootstrap resamples.
    """

    dataset: str
    split: str
    index: int
    name: str
    mos: float
    score: float
    condition: str = "image"
    status: str = "ok"
    group: str = ""
    cluster: str = ""


@dataclass(frozen=True)
class TextPrediction(Prediction):
    """Prediction of a language model, with its text.

    Attributes:
        level: level word that was read; empty if none was.
        text: text that the model generated before the score.
        leak: true if the text that the score was read from names a rating; ``None`` if the score
            was not read from a text.
        spread: standard deviation of several readings; ``nan`` for a single one.
        seconds: time of the reading: this row's share of its batch.
    """

    level: str = ""
    text: str = ""
    leak: bool | None = None
    spread: float = math.nan
    seconds: float = math.nan


def nearest(name: str, valid: Iterable[str]) -> str:
    """End of an error message: the valid names nearest to a wrong one, or all valid names."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f". Did you mean {' or '.join(close)}?"
    return f". Valid names: {', '.join(names)}."


def check_range(name: str, value: float | None, least: float, most: float | None = None) -> None:
    """Refuse a number outside the range of a setting; ``None`` passes.

    Args:
        name: name of the setting.
        value: its value.
        least: smallest value allowed.
        most: largest value allowed; ``None`` for no limit.

    Raises:
        InputError: names the setting and its range.
    """
    if value is None or (least <= value and (most is None or value <= most)):
        return
    end = "or more" if most is None else f"to {most:,}"
    raise InputError(f"{name} is {value}: give {least:,} {end}")
