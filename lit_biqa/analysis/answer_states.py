"""Where a model is about to name the quality: chats whose next token is the quality word."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.readouts.base import Readout, said
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

MARK = "☃"  # stands in for a description: a character that none begins or ends with


@dataclass(frozen=True, eq=False)
class Moment:
    """A sample at the point where the quality word comes next.

    Attributes:
        row: of the batch.
        chat: its next token is the quality word, or the first of several ("very poor").
        marked: the same chat with `MARK` in the place of the description; ``None`` where the chat
            holds no description.
        level: that the model said there; empty where it was not asked to say it.
    """

    row: int
    chat: Chat
    marked: Chat | None = None
    level: str = ""


def moments(model: VisionLanguageModel, readout: Readout, batch: Batch) -> list[Moment]:
    """The moments of a batch, by the readout of a run.

    Rows whose image could not be read are left out, and rows that never come to a quality word.

    Raises:
        InputError: if the readout names no quality word.
    """
    if isinstance(readout, GeneratedWord):
        found = _in_own_words(model, readout, batch)
    elif isinstance(readout, WordReadout):
        found = _after_opening(model, readout, batch)
    else:
        raise InputError(
            f"{type(readout).__name__} comes to no quality word: choose another of the run's "
            "readouts with --condition"
        )
    return [moment for moment in found if batch["status"][moment.row] == "ok"]


def _after_opening(model: VisionLanguageModel, readout: WordReadout, batch: Batch) -> list[Moment]:
    chats, texts = readout.chats(model, batch)
    if isinstance(readout, FromDescription):
        texts = batch["text"]
    elif isinstance(readout, OnePass):
        texts = [decompose(text).description for text in texts]
    found = []
    for row, (chat, text) in enumerate(zip(chats, texts, strict=True)):
        marked = None
        if text and isinstance(readout, OnePass):
            marked = replace(chat, opening=f"{MARK} {readout.words.opening}".strip())
        elif text and isinstance(readout, TwoPass | FromDescription):
            marked = concluding(MARK, readout.words)
        if text or not isinstance(readout, FromDescription):
            found.append(Moment(row, chat, marked))
    return found


def _in_own_words(model: VisionLanguageModel, readout: GeneratedWord, batch: Batch) -> list[Moment]:
    """Each answer up to its quality word; all that the model said before is its description."""
    texts = said(model, batch, readout.question, readout.sampling, readout.at_once, readout.seed)
    found = []
    for row, text in enumerate(texts):
        level = spoken(text).level
        words = decompose(text).words or level
        start = text.lower().rfind(words.lower())
        if not level or start < 0:
            continue
        opening = text[:start].rstrip()
        chat = ask(readout.question, pixels_of(batch, row), opening=opening)
        marked = replace(chat, opening=MARK) if opening else None
        found.append(Moment(row, chat, marked, level))
    return found
