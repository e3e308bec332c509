"""Backbone for other image-text models of transformers with a simple chat template and image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from lit_biqa.backbones.layout import Checkpoint, Layout
from lit_biqa.backbones.templated import TemplatedModel
from lit_biqa.backbones.tuning import Part, Tuning
from lit_biqa.backbones.weights import read_weights, reading, save_weights
from lit_biqa.types import IMAGE, InputError, ask

_TOLD = {"input_ids", "attention_mask", "pixel_values"}


class AutoChat(TemplatedModel):
    """An image-text model such as LLaVA-1.5 (Liu et al., arXiv 2310.03744).

    A model fits if its processor turns an image into one tensor of one size and a fixed number of
    tokens, and if its decoder takes only tokens, mask and pixels. Other models are refused: those
    that cut an image into a varying number of tiles, or that need token types or two-dimensional
    positions.

    Args:
        pretrained: a folder, or a name that transformers can resolve.
        tuning: trained parts, and how they are trained.
        context: most positions of a chat and its answer; by default those of the configuration.
        layout: places of parts that do not lie at the top of `pretrained`; an adapter of peft is
            merged into its base.
    """

    def __init__(
        self,
        pretrained: str,
        tuning: Tuning = Tuning(),
        context: int | None = None,
        layout: Layout = Layout(),
    ) -> None:
        super().__init__(tuning)
        self.checkpoint, self.wanted_context = Checkpoint(pretrained, layout), context

    def prepare(self) -> None:
        """Read tokenizer, image settings and configuration, and check them on two images."""
        if "processor" in self.__dict__:
            return
        from transformers import AutoProcessor

        config, place = self._config(), self.checkpoint.processor
        with reading(place, "its tokenizer or image settings"):
            processor = AutoProcessor.from_pretrained(
                place.name, trust_remote_code=False, backend="pil", **place.options
            )
        for name in ("image_processor", "tokenizer", "chat_template", "image_token_id"):
            if getattr(processor, name, None) is None:
                raise self._misfit(f"its processor has no {name}")
        self.context = self.wanted_context or config.get_text_config().max_position_embeddings
        self.tokenizer, self.template = processor.tokenizer, processor
        self.image_id = processor.image_token_id
        self.end = (self.tokenizer.eos_token_id,)
        self._try(processor)
        self.processor = processor

    def _config(self) -> Any:
        from transformers import AutoConfig

        place = self.checkpoint.weights
        with reading(place, "its configuration"):
            return AutoConfig.from_pretrained(place.name, trust_remote_code=False, **place.options)

    def _try(self, processor: Any) -> None:
        """Compare a chat's row with the output of the processor for the same chat."""
        images = [Image.new("RGB", size) for size in ((64, 64), (160, 96))]
        content = [{"type": "image"}, {"type": "text", "text": "How good is it?"}]
        prompt = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        made = [processor(text=prompt, images=image, return_tensors="pt") for image in images]
        extra = set(made[0]) - _TOLD
        if extra:
            raise self._misfit(f"its decoder also takes {', '.join(sorted(extra))}")
        shapes = {tuple(item["pixel_values"].shape) for item in made}
        counts = {int((item["input_ids"] == self.image_id).sum()) for item in made}
        if len(shapes) > 1 or len(next(iter(shapes))) != 4 or len(counts) > 1 or 0 in counts:
            raise self._misfit("an image does not become one tensor with a fixed number of tokens")
        (self.positions_per_image,) = counts
        row = self.encode_chat(ask(f"{IMAGE}How good is it?", made[0]["pixel_values"][0]))
        if row.ids.tolist() != made[0]["input_ids"][0].tolist():
            raise self._misfit("its image tokens are not one run of one token")

    def _misfit(self, why: str) -> InputError:
        return InputError(
            f"{self.checkpoint.pretrained} is no model for AutoChat: {why}. Take a model like "
            "LLaVA-1.5, or write a backbone (docs/add-a-backbone.md)"
        )

    def _read(self) -> Any:
        from transformers import AutoModelForImageTextToText

        return read_weights(
            AutoModelForImageTextToText,
            self.checkpoint.weights,
            self.tuning.loading(self._not_decoder()),
            self.checkpoint.adapter,
        )

    def _not_decoder(self) -> list[str]:
        """Names of head, tower and bridge, from a model without weights."""
        from transformers import AutoModelForImageTextToText

        config = self._config()
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(config)
        if not hasattr(model, "get_image_features") or not hasattr(model.get_decoder(), "norm"):
            raise self._misfit("its vision tower and decoder are not separate parts")
        parts = _parts(model)
        others = [*parts["vision"], *parts["bridge"], model.get_output_embeddings()]
        return [name for name, module in model.named_modules() if module in others]

    @property
    def image_transform(self) -> Transform:
        """From an image to ``[3, H, W]``."""
        self.prepare()
        return Transform(self.processor.image_processor)

    def image_width(self, pixels: Tensor) -> int:
        """Number of positions of an image."""
        return self.positions_per_image

    def place(self, image: Tensor, pixels: Tensor | None) -> Tensor:
        """Positions ``[1, L]``."""
        return torch.arange(len(image))[None]

    def image_features(self, pixels: Sequence[Tensor]) -> Tensor:
        """``[3, H, W]`` each to ``[n * positions, D]``."""
        stacked = torch.stack(list(pixels)).to(self.model.dtype)
        features = self.model.get_image_features(pixel_values=stacked).pooler_output
        return torch.cat([image.flatten(0, -2) for image in features])

    @property
    def decoder(self) -> Any:
        """Decoder without its head."""
        return self.model.get_decoder()

    @property
    def parts(self) -> dict[Part, list[nn.Module]]:
        """Modules of each part; the bridge is everything outside tower and decoder."""
        return _parts(self.model)

    @property
    def final_norm(self) -> nn.Module:
        """Norm before the head."""
        norm: nn.Module = self.model.get_decoder().norm
        return norm

    def save(self, folder: Path, state: dict[str, Tensor]) -> None:
        """Write weights, configuration, tokenizer, template and image settings."""
        save_weights(folder, self.model, state, self.tuning, self.processor)


@dataclass(frozen=True)
class Transform:
    """Transform from an image to ``[3, H, W]``; picklable, for workers."""

    processor: Any

    def __call__(self, image: Image.Image) -> Tensor:
        """Scale and normalise the image as the checkpoint says."""
        pixels: Tensor = self.processor(images=image, return_tensors="pt")["pixel_values"][0]
        return pixels


def _parts(model: Any) -> dict[Part, list[nn.Module]]:
    decoder, tower = model.get_decoder(), model.get_encoder(modality="image")
    others = [m for m in model.base_model.children() if m not in (decoder, tower)]
    head = model.get_output_embeddings()
    return {"vision": [tower], "bridge": others, "language": [decoder, head]}
