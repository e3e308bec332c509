"""Answers with a caption, a reasoning and a rating, that an engine by script gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lit_biqa.rollout import sampler
from lit_biqa.types import Chat, Completion

CAPTIONS = ("A red dog in the sun.", "A dark, blurry street.", "Noise on a wall.")
THOUGHTS = ("It is sharp and clear.", "The focus is lost; blurry edges.", "Nothing can be seen.")
RATINGS = ("4.25", "2.5", "1")


def answer(row: int) -> str:
    return (
        f"<caption>\n{CAPTIONS[row]}\n</caption>\n<think>\n{THOUGHTS[row]}\n</think>\n"
        f'<answer>\n{{"rating": {RATINGS[row]}}}\n</answer>'
    )


ANSWERS = tuple(map(answer, range(3)))


def script(monkeypatch: pytest.MonkeyPatch, answers: Sequence[str] = ANSWERS) -> list[Chat]:
    """Have the engine give these answers to the chats in turn; returns the chats it was asked."""
    asked: list[Chat] = []

    def generate(model: Any, chats: Sequence[Chat], n: int, *_: Any) -> list[list[Completion]]:
        texts = [answers[(len(asked) + place) % len(answers)] for place in range(len(chats))]
        asked.extend(chats)
        return [[Completion((*model.tokenize(text), model.end[0]), text)] * n for text in texts]

    monkeypatch.setattr(sampler, "generate", generate)
    return asked
