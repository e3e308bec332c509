"""Chats whose next token is the quality word, the states that the studies look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.readouts.base import Readout, answers_to
from lit_biqa.readouts.levels import (
    FromDescription,
    GeneratedWord,
    OnePass,
    TwoPass,
    WordReadout,
    concluding,
    spoken,
)
from lit_biqa.tasks import pixels_of
from lit_biqa.text.conclusions import decompose
from lit_biqa.types import Batch, Chat, InputError, ask

MARK = "☃"  # stands in for a description: no description begins or ends with it


@dataclass(frozen=True, eq=False)
class Moment:
    """A sample at the point where the quality word comes next.

    Attributes:
        row: row in the batch.
        chat: chat whose next token is the quality word, or the first of several ("very poor").
        marked: the same chat with `MARK` in place of the description; ``None`` if the chat holds
            no description.
        level: level that the model named there; empty if it was not asked.
    """

    row: int
    chat: Chat
    marked: Chat | None = None
    level: str = ""


def moments(model: VisionLanguageModel, readout: Readout, batch: Batch) -> list[Moment]:
    """Chats of a batch just before the quality word, as the readout of a run makes them.

    Rows with an unreadable image are left out, and rows whose answer has no quality word.

    Raises:
        InputError: if the readout names no quality word.
    """
    if isinstance(readout, GeneratedWord):
        states = _in_own_words(model, readout, batch)
    elif isinstance(readout, WordReadout):
        states = _after_opening(model, readout, batch)
    else:
        raise InputError(
            f"{type(readout).__name__} reads no quality word: choose another of the run's "
            "readouts with --condition"
        )
    return [moment for moment in states if batch["status"][moment.row] == "ok"]


def _after_opening(model: VisionLanguageModel, readout: WordReadout, batch: Batch) -> list[Moment]:
    chats, texts = readout.chats(model, batch)
    if isinstance(readout, FromDescription):
        texts = batch["text"]
    elif isinstance(readout, OnePass):
        texts = [decompose(text).description for text in texts]
    states = []
    for row, (chat, text) in enumerate(zip(chats, texts, strict=True)):
        marked = None
        if text and isinstance(readout, OnePass):
            marked = replace(chat, opening=f"{MARK} {readout.words.opening}".strip())
        elif text and isinstance(readout, TwoPass | FromDescription):
            marked = concluding(MARK, readout.words)
        if text or not isinstance(readout, FromDescription):
            states.append(Moment(row, chat, marked))
    return states


def _in_own_words(model: VisionLanguageModel, readout: GeneratedWord, batch: Batch) -> list[Moment]:
    """Each answer up to its quality word; everything before the word is its description."""
    texts = answers_to(
        model, batch, readout.question, readout.sampling, readout.at_once, readout.seed
    )
    states = []
    for row, text in enumerate(texts):
        level = spoken(text).level
        words = decompose(text).words or level
        start = text.lower().rfind(words.lower())
        if not level or start < 0:
            continue
        opening = text[:start].rstrip()
        chat = ask(readout.question, pixels_of(batch, row), opening=opening)
        marked = replace(chat, opening=MARK) if opening else None
        states.append(Moment(row, chat, marked, level))
    return states


def differing(ids: Sequence[int], other: Sequence[int]) -> tuple[int, int]:
    """Start and end of the tokens of one list that another, alike before and after, lacks."""
    start = _alike(ids, other)
    return start, len(ids) - _alike(ids[start:][::-1], other[start:][::-1])


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix of two token lists."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
