"""Expected rating: the mean under the probabilities of its digits."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from operator import itemgetter

import torch
from torch import Tensor

from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.readouts.words import next_odds
from lit_biqa.rollout.engine import ChatModel
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
    model: ChatModel,
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
        _told(*next(moments)) if isinstance(item, Chat) else (math.nan, math.nan, item)
        for item in started
    ]


def _told(mean: float, deviation: float) -> tuple[float, float, str]:
    return mean, deviation, "no digit is likely" if math.isnan(mean) else "ok"


def _up_to_rating(chat: Chat | None, answers: Sequence[Completion]) -> Chat | str:
    """Chat whose opening is the answer up to the rating, or the reason why there is none."""
    if chat is None or not answers:
        return "nothing handed on"
    at = _RATING.search(answers[0].text)
    return Chat(chat.messages, chat.pixels, answers[0].text[: at.end()]) if at else "no rating"


def expected_after(
    model: ChatModel, chats: Sequence[Chat], at_once: int
) -> list[tuple[float, float]]:
    """Expected rating and its deviation after each chat, whose opening ends before a rating.

    Both are ``nan`` where a `RemoteModel` finds no digit likely.

    Args:
        model: model with its weights.
        chats: chats with the beginning of an answer, such as ``<answer>{"rating": ``.
        at_once: chats that the model runs together.
    """
    if not chats:
        return []
    first = _odds(model, chats, _FIRST, at_once)
    points = [
        Chat(chat.messages, chat.pixels, f"{chat.opening}{digit}.")
        for chat in chats
        for digit in _FIRST[:-1]
    ]
    second = _odds(model, points, range(10), at_once).view(len(chats), -1, 10)
    # What follows a first digit that is never said may be unknown.
    second = second.masked_fill(first[:, :-1, None] == 0, 0.0)
    tenths = torch.arange(10) / 10
    ones = torch.tensor([float(digit) for digit in _FIRST])
    values = (ones[:-1, None] + tenths).flatten()  # 1.0 to 4.9, and 5
    weights = torch.cat([(first[:, :-1, None] * second).flatten(1), first[:, -1:]], 1)
    values = torch.cat([values, ones[-1:]])
    mean = weights @ values
    deviation = (weights @ values.square() - mean.square()).clamp_min(0).sqrt()
    return list(zip(mean.tolist(), deviation.tolist(), strict=True))


def _odds(model: ChatModel, chats: Sequence[Chat], wanted: Sequence[int], at_once: int) -> Tensor:
    """Probabilities of some digits after each chat, normalised over them, on the CPU."""
    words = [str(digit) for digit in wanted]
    tokens = itemgetter(*wanted)
    return next_odds(model, chats, words, lambda local: tokens(digits(local)), at_once).cpu()
