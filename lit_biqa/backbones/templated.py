"""Backbones with the chat template of their checkpoint."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lit_biqa.backbones.inputs import Row
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.types import IMAGE, Chat, InputError


class TemplatedModel(VisionLanguageModel):
    """Encodes chats with a template in which one token stands for the image.

    Attributes:
        tokenizer: tokenizer of transformers.
        template: object with transformers' ``apply_chat_template``.
        image_id: token id of the image; the decoder takes it once per position.
    """

    tokenizer: Any
    template: Any
    image_id: int

    @abstractmethod
    def image_width(self, pixels: Tensor) -> int:
        """Number of positions of an image."""

    @abstractmethod
    def place(self, image: Tensor, pixels: Tensor | None) -> Tensor:
        """Rotary positions ``[A, L]`` of a row, ``image [L]`` true at image positions."""

    def tokenize(self, text: str) -> list[int]:
        """Tokens of the assistant's text, without an end token."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """Text of the assistant's tokens."""
        decoded: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return decoded

    def prompt(self, messages: Sequence[dict[str, Any]]) -> str:
        """Text of a chat in transformers' form, up to where the assistant speaks."""
        text: str = self.template.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return text

    def encode_chat(self, chat: Chat) -> Row:
        """Encode a chat with the checkpoint's template, with one token per image position.

        Raises:
            InputError: if a text holds the image token.
        """
        messages = [{"role": m.role, "content": _content(m.text)} for m in chat.messages]
        prompt = self.prompt(messages)
        begin = self.tokenizer.bos_token
        begun = begin is not None and prompt.startswith(begin)
        compact = torch.tensor(self.tokenizer.encode(prompt, add_special_tokens=not begun))
        placed = compact == self.image_id
        if int(placed.sum()) != (chat.pixels is not None):
            token = self.tokenizer.convert_ids_to_tokens(self.image_id)
            raise InputError(f"a text holds {token!r}, the image token; remove it")
        width = 1 if chat.pixels is None else self.image_width(chat.pixels)
        widths = torch.where(placed, width, 1)
        image = placed.repeat_interleave(widths)
        ids, positions = compact.repeat_interleave(widths), self.place(image, chat.pixels)
        return Row(ids, image, positions, chat.pixels)


def _content(text: str) -> list[dict[str, str]]:
    parts: list[dict[str, str]] = []
    for index, piece in enumerate(text.split(IMAGE)):
        parts += [{"type": "image"}] * (index > 0)
        parts += [{"type": "text", "text": piece}] * bool(piece)
    return parts
