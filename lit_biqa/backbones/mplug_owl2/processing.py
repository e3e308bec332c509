"""Prompts and images to the inputs of the model, exactly as the original prepares them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    BatchFeature,
    CLIPImageProcessorPil,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)

from lit_biqa.backbones.mplug_owl2.configuration import IMAGE_TOKEN_INDEX
from lit_biqa.backbones.mplug_owl2.splicing import check_placeholders
from lit_biqa.backbones.mplug_owl2.tokenization import (
    encode_with_images,
    find_file,
    load_tokenizer,
)
from lit_biqa.compat.transformers import load_image
from lit_biqa.types import IMAGE, InputError

Aspect = Literal["resize", "pad", "plain"]
Side = Literal["left", "right"]
Picture = Image.Image | str

_HUB = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")

# The official conversation: no system sentence unless the caller gives one, images before the
# question, and an end token but no space after an answer.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: "
    "{% elif message['role'] == 'assistant' %}ASSISTANT: "
    "{% elif message['role'] != 'system' %}"
    "{{ raise_exception('roles are system, user and assistant') }}{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}" + IMAGE + "{% else %}"
    "{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}</s>{% else %} {% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


class MplugOwl2Processor(ProcessorMixin):  # type: ignore[misc]
    """Prepares batches: ``processor(text=..., images=...)`` gives what the model's call takes.

    Args:
        image_processor: the checkpoint's, on Pillow: torchvision resizes to other numbers.
        tokenizer: as `tokenization.load_tokenizer` gives it.
        chat_template: Jinja; by default the official conversation.
        aspect: what happens to an image that is not square. ``resize`` makes it square (the
            official evaluation), ``pad`` adds borders of the mean colour (official training),
            ``plain`` crops what is too long.
        legacy: see `tokenization.encode`.

    Raises:
        InputError: for another ``aspect``.
    """

    def __init__(
        self,
        image_processor: CLIPImageProcessorPil,
        tokenizer: PreTrainedTokenizerFast,
        chat_template: str | None = None,
        aspect: Aspect = "resize",
        legacy: bool = True,
    ) -> None:
        if aspect not in get_args(Aspect):
            raise InputError(f"aspect {aspect!r}: give one of {', '.join(get_args(Aspect))}")
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)
        self.aspect = aspect
        self.legacy = legacy

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        aspect: Aspect | None = None,
        **kwargs: Any,
    ) -> MplugOwl2Processor:
        """Load from an official folder, or one that `save_pretrained` wrote.

        Args:
            pretrained_model_name_or_path: the folder, or a name that transformers can resolve.
            aspect: overrides what was saved.
            kwargs: how transformers shall look for a name: ``revision``, ``cache_dir`` and their
                like; what else its AutoProcessor adds has no meaning here.

        Raises:
            InputError: if a file is missing or of another kind.
        """
        source = str(pretrained_model_name_or_path)
        hub = {name: kwargs[name] for name in _HUB if name in kwargs}
        saved, _ = cls.get_processor_dict(source, **hub)
        try:
            image_processor = CLIPImageProcessorPil.from_pretrained(source, **hub)
        except OSError as error:
            raise InputError(f"{source}: no image settings found; {error}") from error
        return cls(
            image_processor,
            load_tokenizer(source, **hub),
            chat_template=saved.get("chat_template"),
            aspect=aspect or saved.get("aspect", "resize"),
            legacy=saved.get("legacy", _legacy_of(source, hub)),
        )

    @property
    def model_input_names(self) -> list[str]:
        """Keys of the returned batch."""
        return ["input_ids", "attention_mask", "images"]

    def tokenize(self, prompt: str) -> list[int]:
        """Token ids of a prompt, -200 for each ``<|image|>``."""
        return encode_with_images(self.tokenizer, prompt, self.legacy)

    def process_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Images to ``[n, 3, S, S]`` in float32; the aspect is `aspect`'s affair."""
        squared = [self._squared(image.convert("RGB")) for image in images]
        pixels: Tensor = self.image_processor(squared, return_tensors="pt")["pixel_values"]
        return pixels

    def pad(self, rows: Sequence[Sequence[int]], side: Side = "left") -> tuple[Tensor, Tensor]:
        """Rows of ids to ``input_ids [B, L]`` and ``attention_mask [B, L]``."""
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            at = slice(longest - len(row), None) if side == "left" else slice(len(row))
            ids[index, at] = torch.tensor(row)
            mask[index, at] = 1
        return ids, mask

    def __call__(
        self,
        images: Picture | Sequence[Picture | Sequence[Picture]] | None = None,
        text: str | Sequence[str] | None = None,
        videos: None = None,
        audio: None = None,
        padding_side: Side = "left",
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Prepare a batch.

        Args:
            images: Pillow images (or their paths), one per ``<|image|>`` in the order of the
                prompts; nested lists are read in order.
            text: prompts.
            videos: not supported; transformers passes it.
            audio: not supported; transformers passes it.
            padding_side: ``left`` to generate, ``right`` to train as the original does.
            return_tensors: only ``pt``.

        Returns:
            ``input_ids`` and ``attention_mask`` ``[B, L]``, and, where there are images,
            ``images [n, 3, S, S]``.

        Raises:
            InputError: if placeholders and images do not pair up, or there is no text.
        """
        if text is None or not text or videos or audio or return_tensors != "pt":
            raise InputError("mPLUG-Owl2 takes text and images, no video or audio, as 'pt' tensors")
        prompts = [text] if isinstance(text, str) else text
        pictures = _flat(images)
        ids, mask = self.pad([self.tokenize(prompt) for prompt in prompts], padding_side)
        check_placeholders(ids, len(pictures))
        batch = {"input_ids": ids, "attention_mask": mask}
        if pictures:
            batch["images"] = self.process_images(pictures)
        return BatchFeature(batch)

    def batch_decode(self, sequences: Sequence[Any] | Tensor, **kwargs: Any) -> list[str]:
        """Texts of rows of ids, image placeholders left out; options are the tokenizer's."""
        return [self.decode(row, **kwargs) for row in sequences]

    def decode(self, ids: Sequence[int] | Tensor, **kwargs: Any) -> str:
        """Text of one row of ids, image placeholders left out; options are the tokenizer's."""
        tokens = [int(token) for token in ids if int(token) != IMAGE_TOKEN_INDEX]
        text: str = self.tokenizer.decode(tokens, **kwargs)
        return text

    def _squared(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        longest = max(width, height)
        if self.aspect == "resize":
            return image.resize((longest, longest))
        if self.aspect == "plain" or width == height:
            return image
        mean = tuple(int(value * 255) for value in self.image_processor.image_mean)
        canvas = Image.new("RGB", (longest, longest), mean)
        canvas.paste(image, ((longest - width) // 2, (longest - height) // 2))
        return canvas


def _flat(images: Any) -> list[Image.Image]:
    if images is None:
        return []
    if isinstance(images, (str, Image.Image)):
        return [load_image(images) if isinstance(images, str) else images]
    return [image for nested in images for image in _flat(nested)]


def _legacy_of(source: str, hub: dict[str, Any]) -> bool:
    """Transformers 4.31 took an absent flag for true."""
    file = find_file(source, "tokenizer_config.json", **hub)
    settings = {} if file is None else json.loads(file.read_text(encoding="utf-8"))
    return bool(settings.get("legacy", True))
