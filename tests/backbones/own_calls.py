"""Outputs of transformers itself for a chat: tokens, logits, and the answer of ``generate``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    Qwen2_5_VLProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from lit_biqa.backbones.auto_chat import AutoChat
from lit_biqa.backbones.owl2 import MplugOwl2
from lit_biqa.backbones.qwen_vl import QwenVL
from lit_biqa.backbones.timm_chat import IMAGE_TOKEN, TimmChat
from lit_biqa.types import Chat

BUDGET = 5
PROCESSORS = {
    "qwen2_vl": (Qwen2VLProcessor, Qwen2VLVideoProcessor),
    "qwen2_5_vl": (Qwen2_5_VLProcessor, Qwen2VLVideoProcessor),
    "qwen3_vl": (Qwen3VLProcessor, Qwen3VLVideoProcessor),
}


class Own(NamedTuple):
    """Outputs for one chat.

    Attributes:
        ids: tokens of its text, without those that stand for the image.
        logits: ``[L, V]``, image positions included.
        steps: logits of each token that ``generate`` wrote, ``[T, V]``.
        written: these tokens, the likeliest ones.
    """

    ids: list[int]
    logits: Tensor
    steps: Tensor
    written: list[int]


@torch.no_grad()
def own_call(model: Any, chat: Chat, image: Image.Image | None) -> Own:
    """Call transformers' model, with its own attention, on what its own processor makes.

    `TimmChat` is no model of transformers: its decoder gets embeddings that are put together here.
    """
    kinds: dict[Any, Callable[..., tuple[list[int], dict[str, Any]]]]
    kinds = {MplugOwl2: _owl, QwenVL: _qwen, AutoChat: _auto, TimmChat: _timm}
    inputs_of = next(kinds[kind] for kind in kinds if isinstance(model, kind))
    ids, inputs = inputs_of(model, chat, image)
    own, ours = model._read(), model.model
    if isinstance(model, TimmChat):
        own, ours = own.language, ours.language
    own.load_state_dict(ours.state_dict())
    logits = own(**inputs).logits[0]
    options = {"do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    said = own.generate(**inputs, max_new_tokens=BUDGET, eos_token_id=list(model.end), **options)
    written = said.sequences[0, -len(said.logits) :].tolist()
    return Own(ids, logits, torch.cat(said.logits), written)


def _messages(chat: Chat) -> list[dict[str, Any]]:
    return [{"role": m.role, "content": _parts(m.text)} for m in chat.messages]


def _parts(text: str) -> list[dict[str, str]]:
    if not text.startswith("<|image|>"):
        return [{"type": "text", "text": text}]
    return [{"type": "image"}, {"type": "text", "text": text.removeprefix("<|image|>")}]


def _prompt(template: Any, chat: Chat) -> str:
    made = template.apply_chat_template(_messages(chat), tokenize=False, add_generation_prompt=True)
    return f"{made}{chat.opening}"


def _qwen(model: QwenVL, chat: Chat, image: Image.Image | None) -> tuple[list[int], Any]:
    kind, video = PROCESSORS[model.model.config.model_type]
    processor = kind(model.image_processor, model.tokenizer, video())
    made = processor(text=_prompt(model.tokenizer, chat), images=image, return_tensors="pt")
    return _without(made["input_ids"][0], model.image_id), made


def _auto(model: AutoChat, chat: Chat, image: Image.Image | None) -> tuple[list[int], Any]:
    prompt = _prompt(model.processor, chat)
    made = model.processor(text=prompt, images=image, return_tensors="pt")
    return _without(made["input_ids"][0], model.image_id), made


def _owl(model: MplugOwl2, chat: Chat, image: Image.Image | None) -> tuple[list[int], Any]:
    messages = [{"role": m.role, "content": m.text} for m in chat.messages]
    prompt = model.processor.apply_chat_template(messages, add_generation_prompt=True)
    prompt += f" {chat.opening}" if chat.opening else ""
    made = model.processor(image, prompt)
    return [token for token in made["input_ids"][0].tolist() if token >= 0], made


def _timm(model: TimmChat, chat: Chat, image: Image.Image | None) -> tuple[list[int], Any]:
    pieces = _prompt(model.tokenizer, chat).split(IMAGE_TOKEN)
    tokens = [torch.tensor(model.tokenizer.encode(piece)) for piece in pieces]
    parts = [model.token_embedding(each) for each in tokens]
    if image is not None:
        pixels = model.image_transform(image)[None]
        parts.insert(1, model.model.projector(model.model.tower(pixels))[0])
    embeds = torch.cat(parts)[None]
    inputs = {"inputs_embeds": embeds, "attention_mask": torch.ones(1, embeds.shape[1]).long()}
    return torch.cat(tokens).tolist(), inputs


def _without(ids: Tensor, token: int) -> list[int]:
    kept: list[int] = ids[ids != token].tolist()
    return kept
