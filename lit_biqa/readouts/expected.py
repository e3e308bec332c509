"""Expected rating: the mean under the probabilities of its digits."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from lit_biqa.backbones.inputs import Inputs
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.objectives.likelihood import level_probabilities
from lit_biqa.readouts.words import in_chunks, next_logits
from lit_biqa.types import Chat, Completion, InputError

_RATING = re.compile(r'"rating"\s*:\s*')
_BEFORE = '"rating": '
_FIRST = range(1, 6)


def digits(model: VisionLanguageModel) -> list[int]:
    """Tokens of the digits 0 to 9 at the place of a rating.

    Raises:
        InputError: if a digit is not a single token there.
    """
    before = model.tokenize(_BEFORE)
    tokens = [model.tokenize(f"{_BEFORE}{digit}")[len(before) :] for digit in range(10)]
    if any(len(ids) != 1 for ids in tokens):
        raise InputError(
            "reading=expected needs a backbone whose tokenizer has one token for each digit; "
            "set reading=mean"
        )
    return [ids[0] for ids in tokens]


def expected_ratings(
    model: VisionLanguageModel,
    chats: Sequence[Chat | None],
    said: Sequence[Sequence[Completion]],
    at_once: int,
) -> list[tuple[float, float, str]]:
    """Expected rating, its deviation and a status, for the first answer to each chat.

    The answer is cut before its rating. The first digit is 1 to 5; the second, after a point, is 0
    to 9, and 0 after a 5. Further digits would add less than 0.1.

    Args:
        model: model that answered.
        chats: chats that it answered; ``None`` for a missing one.
        said: its answers to each chat.
        at_once: chats that the model runs together.
    """
    started = [_up_to_rating(chat, answers) for chat, answers in zip(chats, said, strict=True)]
    asked = [chat for chat in started if isinstance(chat, Chat)]
    moments = iter(expected_after(model, asked, at_once))
    return [
        (*next(moments), "ok") if isinstance(item, Chat) else (math.nan, math.nan, item)
        for item in started
    ]


def _up_to_rating(chat: Chat | None, answers: Sequence[Completion]) -> Chat | str:
    """Chat whose opening is the answer up to the rating, or the reason why there is none."""
    if chat is None or not answers:
        return "nothing handed on"
    at = _RATING.search(answers[0].text)
    return Chat(chat.messages, chat.pixels, answers[0].text[: at.end()]) if at else "no rating"


def expected_after(
    model: VisionLanguageModel, chats: Sequence[Chat], at_once: int
) -> list[tuple[float, float]]:
    """Expected rating and its deviation after each chat, whose opening ends before a rating.

    Args:
        model: model with its weights.
        chats: chats with the beginning of an answer, such as ``<answer>{"rating": ``.
        at_once: chats that the model runs together.
    """
    if not chats:
        return []
    tokens = digits(model)
    first = _odds(model, chats, [tokens[digit] for digit in _FIRST], at_once)
    points = [
        Chat(chat.messages, chat.pixels, f"{chat.opening}{digit}.")
        for chat in chats
        for digit in _FIRST[:-1]
    ]
    second = _odds(model, points, tokens, at_once).view(len(chats), -1, 10)
    tenths = torch.arange(10) / 10
    ones = torch.tensor([float(digit) for digit in _FIRST])
    values = (ones[:-1, None] + tenths).flatten()  # 1.0 to 4.9, and 5
    weights = torch.cat([(first[:, :-1, None] * second).flatten(1), first[:, -1:]], 1)
    values = torch.cat([values, ones[-1:]])
    mean = weights @ values
    deviation = (weights @ values.square() - mean.square()).clamp_min(0).sqrt()
    return list(zip(mean.tolist(), deviation.tolist(), strict=True))


def _odds(
    model: VisionLanguageModel, chats: Sequence[Chat], tokens: Sequence[int], at_once: int
) -> Tensor:
    """Probabilities of some tokens after each chat, normalised over them, on the CPU."""

    def odds(inputs: Inputs) -> Tensor:
        logits: Tensor = model(next_logits, inputs)
        return level_probabilities(logits, tokens)

    return in_chunks(model, chats, at_once, odds).cpu()
