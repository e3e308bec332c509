"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL as backbones, through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from lit_biqa.backbones.layout import Checkpoint, Layout
from lit_biqa.backbones.other_layouts import SERVED_QWEN
from lit_biqa.backbones.places import Place
from lit_biqa.backbones.templated import TemplatedModel
from lit_biqa.backbones.tuning import Part, Tuning
from lit_biqa.backbones.weights import read_config, read_weights, reading, save_weights
from lit_biqa.io.json_text import parse_json
from lit_biqa.limits import IMAGE_RATIO
from lit_biqa.types import InputError

IMAGE_PAD = "<|image_pad|>"
KINDS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")  # `model_type` of configurations


class QwenVL(TemplatedModel):
    """Qwen2-VL, Qwen2.5-VL or Qwen3-VL with a dense decoder, as the configuration says.

    A position of the decoder is 28 x 28 pixels, of Qwen3-VL 32 x 32. Qwen3-VL adds features of
    several layers of its tower to the first layers of its decoder (DeepStack).

    Source: Wang et al. (arXiv 2409.12191), Bai et al. (arXiv 2502.13923, 2511.21631).

    Args:
        pretrained: a folder, or a name that transformers can resolve.
        tuning: trained parts, and how they are trained.
        min_pixels: smaller images are enlarged to this number of pixels.
        max_pixels: larger images are scaled down to it.
        context: most positions of a chat and its answer.
        layout: places of parts that do not lie at the top of `pretrained`; an adapter of peft is
            merged into its base.
    """

    def __init__(
        self,
        pretrained: str = "Qwen/Qwen2.5-VL-7B-Instruct",
        tuning: Tuning = Tuning(),
        min_pixels: int = 3136,
        max_pixels: int = 12_845_056,
        context: int = 32_768,
        layout: Layout = Layout(),
    ) -> None:
        super().__init__(tuning)
        self.checkpoint, self.context = Checkpoint(pretrained, layout), context
        self.min_pixels, self.max_pixels = min_pixels, max_pixels

    def prepare(self) -> None:
        """Read tokenizer and image settings."""
        if "tokenizer" in self.__dict__:
            return
        from transformers import AutoTokenizer, Qwen2VLImageProcessorPil

        read_config(self.checkpoint.weights, *KINDS)
        place = self.checkpoint.processor
        with reading(place, "its tokenizer or image settings"):
            self.tokenizer = AutoTokenizer.from_pretrained(
                place.name, trust_remote_code=False, **place.options
            )
            self.image_processor = Qwen2VLImageProcessorPil.from_pretrained(
                place.name, **place.options
            )
            self.tokenizer.chat_template = self.tokenizer.chat_template or _template(place)
        self.image_processor.size = {
            "shortest_edge": self.min_pixels,
            "longest_edge": self.max_pixels,
        }
        self._settle()

    def _settle(self) -> None:
        if IMAGE_PAD not in str(self.tokenizer.chat_template):
            raise InputError(
                f"{self.checkpoint.pretrained}: its chat template has no image; take the tokenizer "
                "files of an Instruct checkpoint"
            )
        self.template = self.tokenizer
        self.image_id = self.tokenizer.convert_tokens_to_ids(IMAGE_PAD)
        self.end = (self.tokenizer.eos_token_id, self.tokenizer.pad_token_id)

    def _read(self) -> Any:
        from transformers import AutoModelForImageTextToText

        unquantised = ["model.visual", "lm_head"]
        return read_weights(
            AutoModelForImageTextToText,
            self.checkpoint.weights,
            self.tuning.loading(unquantised),
            self.checkpoint.adapter,
            SERVED_QWEN,
        )

    @property
    def image_transform(self) -> Transform:
        """Transform from an image to patches ``[height, width, values]``."""
        self.prepare()
        return Transform(self.image_processor)

    def image_width(self, pixels: Tensor) -> int:
        """Number of positions of an image: one for 2 x 2 patches."""
        return pixels.shape[0] * pixels.shape[1] // int(self.image_processor.merge_size) ** 2

    def place(self, image: Tensor, pixels: Tensor | None) -> Tensor:
        """Rotary positions ``[3, L]``."""
        if pixels is None:
            return torch.arange(len(image)).repeat(3, 1)
        height, width = (side // self.image_processor.merge_size for side in pixels.shape[:2])
        return grid_positions(int(image.int().argmax()), height, width, len(image))

    def image_features(self, pixels: Sequence[Tensor]) -> Tensor:
        """Patches ``[height, width, values]`` each to ``[height * width / 4 of all, (1 + K) D]``.

        Features of the last layer of the tower, then those of the K layers that DeepStack names.
        """
        grids = torch.tensor([(1, *image.shape[:2]) for image in pixels])
        patches = torch.cat([image.flatten(0, 1) for image in pixels])
        visual = self.model.model.visual
        seen = visual(patches.to(visual.dtype), grid_thw=grids.to(patches.device))
        return torch.cat([seen.pooler_output, *getattr(seen, "deepstack_features", ())], -1)

    @property
    def decoder(self) -> Any:
        """Decoder without its head."""
        return self.model.model.language_model

    def decoder_inputs(self, positions: Tensor, image: Tensor | None) -> dict[str, Any]:
        """See `VisionLanguageModel`; positions have three axes."""
        return {"position_ids": positions}

    def decode(
        self,
        embeds: Tensor,
        mask: Tensor | None,
        positions: Tensor,
        cache: Any = None,
        image: Tensor | None = None,
        **options: Any,
    ) -> Any:
        """See `VisionLanguageModel`; image features of deeper layers stand behind embeddings."""
        first, *deeper = embeds.chunk(embeds.shape[-1] // self.token_embedding.embedding_dim, -1)
        if deeper and image is not None:
            options["visual_pos_masks"] = image
            options["deepstack_visual_embeds"] = [features[image] for features in deeper]
        return super().decode(first, mask, positions, cache, image, **options)

    @property
    def parts(self) -> dict[Part, list[nn.Module]]:
        """Modules of each part; the merger, or each of Qwen3-VL's, is the bridge."""
        inside = list(self.model.model.visual.named_children())
        return {
            "vision": [module for name, module in inside if "merger" not in name],
            "bridge": [module for name, module in inside if "merger" in name],
            "language": [self.model.model.language_model, self.model.lm_head],
        }

    @property
    def final_norm(self) -> nn.Module:
        """Norm before the head."""
        norm: nn.Module = self.model.model.language_model.norm
        return norm

    def save(self, folder: Path, state: dict[str, Tensor]) -> None:
        """Write weights, configuration, tokenizer and image settings."""
        save_weights(folder, self.model, state, self.tuning, self.tokenizer, self.image_processor)


def _template(place: Place) -> str | None:
    """Chat template of ``chat_template.json``, where transformers looks only for a processor."""
    path = place.file("chat_template.json")
    if path is None:
        return None
    template: str = parse_json(path.read_text(encoding="utf-8"), str(path))["chat_template"]
    return template


@dataclass(frozen=True)
class Transform:
    """Transform from an image to patches ``[height, width, values]``; picklable, for workers."""

    processor: Any

    def __call__(self, image: Image.Image) -> Tensor:
        """Enlarge an image narrower than one position, scale it to the allowed pixels, cut patches.

        Raises:
            InputError: for an image more than `IMAGE_RATIO` times as long as wide.
        """
        # One position of the decoder.
        image = wide_enough(image, self.processor.patch_size * self.processor.merge_size)
        made = self.processor(images=image, return_tensors="pt")
        _, height, width = made["image_grid_thw"][0].tolist()
        patches: Tensor = made["pixel_values"].view(height, width, -1)
        return patches


def wide_enough(image: Image.Image, least: int) -> Image.Image:
    """Image with both sides of at least ``least`` pixels, enlarged if it is narrower.

    Raises:
        InputError: for an image more than `IMAGE_RATIO` times as long as wide.
    """
    shortest = min(image.size)
    if max(image.size) > IMAGE_RATIO * shortest:
        raise InputError(
            f"{image.width} x {image.height} pixels are too narrow for Qwen-VL, which takes "
            f"a ratio of sides of at most {IMAGE_RATIO}: crop it"
        )
    if shortest >= least:
        return image
    scale = least / shortest
    size = [max(least, round(side * scale)) for side in image.size]
    return image.resize((size[0], size[1]), Image.Resampling.LANCZOS)


def grid_positions(before: int, height: int, width: int, length: int) -> Tensor:
    """Positions ``[3, length]`` along time, height and width, of a row with one image.

    Args:
        before: number of text tokens before the image.
        height: height of the image in positions.
        width: width of the image in positions.
        length: length of the row.

    Source: Qwen2-VL (Wang et al., arXiv 2409.12191), multimodal rotary positions.
    """
    after = length - before - height * width
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)
    image = before + torch.stack([torch.zeros_like(rows), rows, columns])
    tail = before + max(height, width) + torch.arange(after)
    return torch.cat([torch.arange(before).repeat(3, 1), image, tail.repeat(3, 1)], 1)
