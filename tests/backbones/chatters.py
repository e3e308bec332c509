"""Tiny backbones that read chats, one of each kind, and chats for them."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from llavas import SmallInternVL, SmallLlava, SmallLlavaOneVision
from PIL import Image
from timm_chats import TinyTimmChat
from tiny_qwens import TinyQwen2VL, TinyQwen3VL

from lit_biqa.backbones.auto_chat import AutoChat
from lit_biqa.backbones.owl2 import MplugOwl2
from lit_biqa.backbones.qwen_vl import QwenVL
from lit_biqa.backbones.timm_chat import TimmChat
from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.types import Chat, Message, ask

Tiny: TypeAlias = TinyMplugOwl2 | TinyQwenVL
FAMILIES: tuple[type[TinyMplugOwl2] | type[TinyQwenVL], ...] = (TinyMplugOwl2, TinyQwenVL)

# What passes the contract, under the names of the table in docs/add-a-backbone.md.
BACKBONES: dict[str, Any] = {
    "mPLUG-Owl2": TinyMplugOwl2,
    "Qwen2-VL": TinyQwen2VL,
    "Qwen2.5-VL": TinyQwenVL,
    "Qwen3-VL": TinyQwen3VL,
    "LLaVA-1.5": SmallLlava,
    "LLaVA-OneVision": SmallLlavaOneVision,
    "InternVL3": SmallInternVL,
    "TimmChat": TinyTimmChat,
}


def loaded(family: Any, tuning: Tuning = Tuning()) -> Any:
    """A model of one's own, with two layers and an odd number of tokens."""
    model = family(layers=2, vocabulary=401, tuning=tuning)
    model.load()
    return model


@cache
def shared(family: Any) -> Any:
    """One such model for all; do not change it."""
    return loaded(family)


def stirred(family: Any, tuning: Tuning = Tuning()) -> Any:
    """A model whose words depend on what it reads: its weights are larger than initial ones.

    The updates of LoRA, which begin at zero, are not zero.
    """
    model = loaded(family, tuning)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
            elif weight.ndim == 1:
                weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
            else:
                weight.mul_(2)
    return model


def reference(family: Any) -> Any:
    """The same model as transformers itself would have it, with its own attention."""
    model = family(layers=2, vocabulary=401)
    model.prepare()
    return model._read()


def reader(family: Any, folder: str, tuning: Tuning = Tuning()) -> VisionLanguageModel:
    """The class of full size on a folder that a small model wrote, not loaded yet."""
    if issubclass(family, TinyTimmChat):
        return TimmChat(folder, tuning=tuning, precision="float32")
    kinds: tuple[Any, ...] = (MplugOwl2, QwenVL, AutoChat)
    model: VisionLanguageModel = next(k for k in kinds if issubclass(family, k))(folder, tuning)
    return model


def reread(family: Any, folder: str, tuning: Tuning = Tuning()) -> VisionLanguageModel:
    """The same, loaded."""
    model = reader(family, folder, tuning)
    model.load()
    return model


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


# Of `mixed`; the second chat has none.
PICTURES = ((90, 60, 0), None, (57, 130, 1), (120, 50, 2))


def mixed(model: VisionLanguageModel) -> list[Chat]:
    """With image and without, short and long."""
    first, _, second, third = (
        None if each is None else model.image_transform(picture(*each)) for each in PICTURES
    )
    return [
        ask("How good is it?", first),
        ask("The image is blurry. What is its quality?"),
        conversation(second),
        ask("Rate it.", third, opening="The quality is"),
    ]
