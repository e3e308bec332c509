"""Tiny backbones, chats for them, and what they say computed the plain way."""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from timm_chats import TinyTimmChat
from torch import Tensor

from lit_biqa.backbones.inputs import Inputs
from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.types import Chat, ask

Family: TypeAlias = type[TinyMplugOwl2] | type[TinyQwenVL] | type[TinyTimmChat]
FAMILIES: tuple[Family, ...] = (TinyMplugOwl2, TinyQwenVL, TinyTimmChat)


def talker(family: Family, tuning: Tuning = Tuning(), seed: int = 0) -> VisionLanguageModel:
    """A model whose words depend on what it reads: its weights are larger than initial ones."""
    model = family(layers=2, tuning=tuning)
    model.load()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
        elif parameter.ndim == 2:
            parameter.data *= 3
    return model


@cache
def shared_talker(family: Family) -> VisionLanguageModel:
    """One for all tests; do not change it."""
    return talker(family)


def chats_for(model: VisionLanguageModel) -> list[Chat]:
    """Chats of different lengths, with and without image, one with an opening."""
    see = model.image_transform
    return [
        ask("How good is it?", see(_picture(90, 60))),
        ask("The image is blurry and very dark. What is its quality?"),
        ask("Rate it.", see(_picture(60, 120)), opening="The quality is"),
    ]


def _picture(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def plain_logits(model: VisionLanguageModel, chat: Chat, said: Tensor) -> Tensor:
    """Logits ``[T, V]`` of each token ``said [T]`` after a chat: one row, nothing shared."""
    prompt, count = model.encode([chat]), len(said)
    later = prompt.next_positions + torch.arange(count)
    row = Inputs(
        torch.cat([prompt.ids, said[None]], 1),
        torch.cat([prompt.mask, torch.ones(1, count).bool()], 1),
        torch.cat([prompt.image, torch.zeros(1, count).bool()], 1),
        torch.cat([prompt.positions, later.expand(len(prompt.positions), 1, -1)], 2),
        None,
        prompt.pixels,
    )
    hidden = model.hidden(row).last_hidden_state[0, -count - 1 : -1]
    logits: Tensor = model.head(hidden)
    return logits
