"""Probabilities of the words of a set, normalised over the set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lit_biqa.backbones.inputs import Inputs
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.objectives.likelihood import level_probabilities
from lit_biqa.readouts.base import Verdict
from lit_biqa.rollout.engine import ChatModel, RemoteModel
from lit_biqa.text import prompts
from lit_biqa.text.levels import LEVELS, SCORES, expected_score
from lit_biqa.types import Chat, InputError, ask

FIVE = dict(zip(LEVELS, SCORES, strict=True))


@dataclass(frozen=True)
class Words:
    """A set of words with their scores; a readout reads the probability of each.

    Attributes:
        scores: score of each word, on [1, 5]. Q-Align: the five levels. Q-Instruct: good 5, poor 1,
            or good 5, average 3, poor 1.
        opening: beginning of the answer, which the word continues.
    """

    scores: dict[str, float] = field(default_factory=lambda: dict(FIVE))
    opening: str = prompts.QUALITY_OPENING

    def tokens(self, model: VisionLanguageModel) -> list[int]:
        """Token of each word.

        Raises:
            InputError: if a word is not a single token, or two words share one.
        """
        chat = ask("", opening=self.opening)
        ids = {word: model.answer(chat, word) for word in self.scores}
        longer = [word for word, pieces in ids.items() if len(pieces) != 1]
        if longer:
            raise InputError(
                f"{', '.join(longer)} of the word set {', '.join(self.scores)} are no single "
                f"tokens after {self.opening!r}: choose words that this backbone has as tokens"
            )
        tokens = [pieces[0] for pieces in ids.values()]
        if len(set(tokens)) < len(tokens) or len(tokens) < 2:
            raise InputError(f"the word set {', '.join(self.scores)} needs two different words")
        return tokens

    def judge(self, model: ChatModel, chats: Sequence[Chat], at_once: int) -> Tensor:
        """Probabilities ``[B, K]`` of the words after each chat, normalised over the words."""
        return next_odds(model, chats, list(self.scores), self.tokens, at_once)

    def verdicts(self, probabilities: Tensor, texts: Sequence[str] = ()) -> list[Verdict]:
        """Verdicts with expected scores and likeliest words; no score for a row of ``nan``."""
        scores = expected_score(probabilities, list(self.scores.values())).tolist()
        best = probabilities.argmax(1).tolist()
        names = list(self.scores)
        answers = texts or [""] * len(scores)
        return [
            Verdict(s, t, status="no word is likely") if math.isnan(s) else Verdict(s, t, names[b])
            for s, t, b in zip(scores, answers, best, strict=True)
        ]


def next_odds(
    model: ChatModel,
    chats: Sequence[Chat],
    words: Sequence[str],
    tokens: Callable[[VisionLanguageModel], Sequence[int]],
    at_once: int,
) -> Tensor:
    """Probabilities ``[B, K]`` of K words after each chat, normalised over the words.

    Args:
        model: model that reads the chats.
        chats: each with the beginning of the answer that a word continues.
        words: the words.
        tokens: gives the token of each word, for a model whose logits are at hand.
        at_once: chats that such a model runs together.
    """
    if isinstance(model, RemoteModel):
        return model.next_odds(chats, words)
    ids = tokens(model)

    def odds(inputs: Inputs) -> Tensor:
        logits: Tensor = model(next_logits, inputs)
        return level_probabilities(logits, ids)

    return in_chunks(model, chats, at_once, odds)


def next_logits(model: VisionLanguageModel, inputs: Inputs) -> Tensor:
    """Logits ``[B, V]`` of the token after each row; rows are padded on the left."""
    logits: Tensor = model.head(model.hidden(inputs).last_hidden_state[:, -1])
    return logits


def in_chunks(
    model: VisionLanguageModel,
    chats: Sequence[Chat],
    at_once: int,
    work: Callable[[Inputs], Tensor],
) -> Tensor:
    """Apply ``work`` to chunks of chats of similar length; results in the chats' order."""
    order = sorted(range(len(chats)), key=lambda i: sum(len(m.text) for m in chats[i].messages))
    parts = [
        work(model.encode([chats[i] for i in order[start : start + at_once]]).to(model.device))
        for start in range(0, len(order), at_once)
    ]
    results = torch.cat(parts)
    restored = torch.empty_like(results)
    restored[torch.tensor(order, device=results.device)] = results
    return restored
