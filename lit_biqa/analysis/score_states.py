"""Answers that rate an image, with the places of their rating, caption and reasoning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_biqa.analysis.answer_states import MARK, differing
from lit_biqa.backbones.inputs import Row, extended
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.readouts.ratings import Answered, Rated
from lit_biqa.text.parsing import rating_span, text_spans
from lit_biqa.types import Batch, Chat

SEGMENTS = ("image", "prompt", "caption", "reasoning", "form")
"""Segments of a context: ``form`` is what the answer holds beside its texts: tags and JSON."""

TEXTS = ("caption", "reasoning")

Span = tuple[int, int]


@dataclass(frozen=True, eq=False)
class RatedAnswer:
    """An answer with a rating.

    Attributes:
        row: row in the batch.
        chat: the question.
        handed: text that the question holds, of an earlier answer; empty if it shows the image.
        marked: the question with `MARK` in place of that text.
        ids: token ids of the answer.
        text: the answer.
        rating: start and end of the rating in the text.
    """

    row: int
    chat: Chat
    handed: str
    marked: Chat | None
    ids: tuple[int, ...]
    text: str
    rating: Span

    @property
    def score(self) -> float:
        """The rating, on [1, 5]."""
        return float(self.text[slice(*self.rating)])

    @property
    def opening(self) -> str:
        """The answer up to its rating."""
        return self.text[: self.rating[0]]


def rated_answers(
    model: VisionLanguageModel, readout: Rated, condition: str, batch: Batch
) -> list[RatedAnswer]:
    """First answers of a readout's condition that hold a rating.

    Rows with an unreadable image, or without a rating, are left out. Pixels are moved to the
    model's device here, so that its cache of image features knows them again.
    """
    moved = [None if image is None else image.to(model.device) for image in batch["pixels"]]
    batch = Batch(**{**batch, "pixels": moved})
    answered = next(a for name, a in readout.answered(model, batch) if str(name) == condition)
    states = (_state(readout, answered, row) for row in range(len(batch["index"])))
    return [s for s in states if s is not None and batch["status"][s.row] == "ok"]


def _state(readout: Rated, answered: Answered, row: int) -> RatedAnswer | None:
    chat, completions = answered.chats[row], answered.completions[row]
    if chat is None or not completions:
        return None
    answer = completions[0]
    span = rating_span(answer.text, answered.form)
    if span is None:
        return None
    handed = "" if answered.texts is None else answered.texts[row] or ""
    marked = readout.second_question(MARK) if handed else None
    return RatedAnswer(row, chat, handed, marked, answer.ids, answer.text, span)


@dataclass(frozen=True, eq=False)
class Context:
    """Tokens before the rating and of the rating itself.

    Attributes:
        row: all tokens, question and answer.
        segment: segment of each token ``[L]``, as an index into `SEGMENTS`.
        digits: places of the tokens that are digits of the rating.
        pieces: text of each token of caption and reasoning, by its place.
    """

    row: Row
    segment: Tensor
    digits: list[int]
    pieces: dict[int, str]

    def before(self, place: int) -> Row:
        """Tokens before a place: the last of them predicts the token there."""
        row = self.row
        return Row(row.ids[:place], row.image[:place], row.positions[:, :place], row.pixels)


def context(model: VisionLanguageModel, answer: RatedAnswer) -> Context:
    """Context of a rating, with the segment of each token."""
    question = model.encode_prompt(answer.chat)
    row = extended(question, answer.ids)
    segment = torch.full_like(row.ids, SEGMENTS.index("form"))
    segment[: len(question.ids)] = SEGMENTS.index("prompt")
    segment[row.image] = SEGMENTS.index("image")
    pieces = {}
    if answer.marked is not None:
        marked = model.encode_prompt(answer.marked).ids.tolist()
        start, stop = differing(question.ids.tolist(), marked)
        segment[start:stop] = SEGMENTS.index("caption")
        texts = spelled(model, question.ids[start:stop].tolist())
        pieces = {start + place: text for place, (text, _) in enumerate(texts)}
    begin, spans = len(question.ids), _texts_before(answer)
    digits = []
    for place, (text, at) in enumerate(spelled(model, answer.ids), begin):
        name = next((name for name, span in spans.items() if _inside(at, text, span)), None)
        if name is not None:
            segment[place] = SEGMENTS.index(name)
            pieces[place] = text
        elif any(sign.isdigit() for sign in text) and _inside(at, text, answer.rating):
            digits.append(place)
    return Context(row, segment, digits, pieces)


def _texts_before(answer: RatedAnswer) -> dict[str, Span]:
    """Spans of caption and reasoning; one that is not closed ends where the rated answer begins.

    Before a boxed rating, an answer without ``<think>`` is all reasoning.
    """
    rating = answer.rating[0]
    begun = {mark: answer.text.rfind(mark, 0, rating) for mark in ("<answer>", r"\boxed{")}
    end = min((at for at in begun.values() if at >= 0), default=rating)
    spans = text_spans(answer.text)
    if not spans and begun[r"\boxed{"] >= 0:
        spans = {"reasoning": (0, end)}
    return {name: (start, min(stop, end)) for name, (start, stop) in spans.items()}


def spelled(model: VisionLanguageModel, ids: Sequence[int]) -> Iterator[tuple[str, int]]:
    """Text of each token, and where it begins in the text of all.

    A token alone can decode to another text than among others, so prefixes are decoded.
    """
    begin = 0
    for place in range(len(ids)):
        text = model.text(ids[: place + 1])
        yield text[begin:], begin
        begin = max(begin, len(text))


def _inside(at: int, text: str, span: Span) -> bool:
    """True if a token has a sign inside a span; white space does not count."""
    start, stop = (max(at, span[0]) - at, min(at + len(text), span[1]) - at)
    return bool(text[max(0, start) : max(0, stop)].strip())
