"""Tiny backbones that read chats, and chats for them."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.types import Chat, Message, ask

Tiny: TypeAlias = TinyMplugOwl2 | TinyQwenVL
FAMILIES: tuple[type[TinyMplugOwl2] | type[TinyQwenVL], ...] = (TinyMplugOwl2, TinyQwenVL)


def loaded(family: type[TinyMplugOwl2] | type[TinyQwenVL], tuning: Tuning = Tuning()) -> Tiny:
    """A model of one's own, with two layers and an odd number of tokens."""
    model = family(layers=2, vocabulary=401, tuning=tuning)
    model.load()
    return model


@cache
def shared(family: type[TinyMplugOwl2] | type[TinyQwenVL]) -> Tiny:
    """One such model for all; do not change it."""
    return loaded(family)


def reference(family: type[TinyMplugOwl2] | type[TinyQwenVL]) -> Any:
    """The same model as transformers itself would have it, with its own attention."""
    model = family(layers=2, vocabulary=401)
    model.prepare()
    return model._read()


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def conversation(pixels: Any) -> Chat:
    """Three turns after an instruction, the image in the first."""
    return Chat(
        (
            Message("system", "Answer in one word."),
            Message("user", "<|image|>Is it sharp?"),
            Message("assistant", "good"),
            Message("user", "And bright?"),
        ),
        pixels,
    )


def mixed(model: Tiny) -> list[Chat]:
    """With image and without, short and long."""
    see = model.image_transform
    return [
        ask("How good is it?", see(picture(90, 60))),
        ask("The image is blurry. What is its quality?"),
        conversation(see(picture(57, 130, 1))),
        ask("Rate it.", see(picture(120, 50, 2)), opening="The quality is"),
    ]
