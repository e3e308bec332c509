"""Tiny models of all families that rate, with their batches."""

from __future__ import annotations

from studied import batch, opinionated
from timm_chats import TinyTimmChat

from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.types import Batch

FAMILIES = ("owl2", "qwen", "timm")


def loaded(family: str) -> VisionLanguageModel:
    """A model with attention that is far from uniform."""
    if family == "timm":
        model = TinyTimmChat()
        model.load()
        return model
    return opinionated(TinyMplugOwl2 if family == "owl2" else TinyQwenVL)


def given(model: VisionLanguageModel) -> Batch:
    return batch(model)
