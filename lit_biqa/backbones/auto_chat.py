"""Backbone for other image-text models of transformers, whose images are tiles."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from lit_biqa.backbones.layout import Checkpoint, Layout
from lit_biqa.backbones.qwen_vl import KINDS
from lit_biqa.backbones.templated import TemplatedModel
from lit_biqa.backbones.tiles import Tiles, TileTransform, limit_tiles
from lit_biqa.backbones.tuning import Part, Tuning
from lit_biqa.backbones.weights import read_weights, reading, save_weights
from lit_biqa.types import IMAGE, InputError, ask, check_range

log = logging.getLogger(__name__)

# What a processor may tell of an image; each has one, so that their number says nothing.
_TOLD = {"input_ids", "attention_mask", "pixel_values", "image_sizes", "batch_num_images"}
# Sizes of images that a processor is tried on: square, wide and tall.
_TRIED = ((64, 64), (160, 96), (50, 210))
# Types of configurations that pass the contract (tests/backbones/test_contract.py) with this class.
PASSED = ("internvl", "llava", "llava_onevision")


class AutoChat(TemplatedModel):
    """An image-text model such as LLaVA-1.5, LLaVA-OneVision or InternVL3.

    A model fits if its processor turns an image into one or more tiles of one size, which become
    one run of one token, and if its decoder takes only tokens, mask and these images. Other models
    are refused, such as those that need token types or two-dimensional positions.

    Source: Liu et al. (arXiv 2310.03744), Li et al. (arXiv 2408.03326), Zhu et al. (arXiv
    2504.10479).

    Args:
        pretrained: a folder, or a name that transformers can resolve.
        tuning: trained parts, and how they are trained.
        context: most positions of a chat and its answer; by default those of the configuration.
        max_tiles: most tiles of an image, beside one of the whole image; by default as many as the
            checkpoint says. Fewer tiles show less detail and take fewer positions.
        layout: places of parts that do not lie at the top of `pretrained`; an adapter of peft is
            merged into its base.

    Raises:
        InputError: for numbers out of range.
    """

    def __init__(
        self,
        pretrained: str,
        tuning: Tuning = Tuning(),
        context: int | None = None,
        max_tiles: int | None = None,
        layout: Layout = Layout(),
    ) -> None:
        super().__init__(tuning)
        if max_tiles is not None:
            check_range("backbone.max_tiles", max_tiles, 1)
        self.checkpoint, self.wanted_context = Checkpoint(pretrained, layout), context
        self.max_tiles = max_tiles

    def prepare(self) -> None:
        """Read tokenizer, image settings and configuration, and check them on a few images."""
        if "processor" in self.__dict__:
            return
        config, processor = self._config(), self._processor()
        for name in ("image_processor", "tokenizer", "chat_template", "image_token_id"):
            if getattr(processor, name, None) is None:
                raise self._misfit(f"its processor has no {name}")
        if self.max_tiles and not limit_tiles(processor.image_processor, self.max_tiles):
            raise self._misfit("it does not cut images into tiles; leave max_tiles out")
        self.context = self.wanted_context or config.get_text_config().max_position_embeddings
        self.tokenizer, self.template = processor.tokenizer, processor
        self.image_id = processor.image_token_id
        self.end = (self.tokenizer.eos_token_id,)
        self._try(processor)
        self.processor = processor
        if config.model_type not in PASSED:
            source = self.checkpoint.pretrained
            log.warning("%s: %s is no type that the tests check", source, config.model_type)

    def _processor(self) -> Any:
        from transformers import AutoImageProcessor, AutoProcessor

        place = self.checkpoint.processor
        options = {"trust_remote_code": False, **place.options}
        with reading(place, "its tokenizer or image settings"):
            processor = AutoProcessor.from_pretrained(place.name, **options)
            # Not all at once: processors of videos, which some models have, are not made for PIL.
            processor.image_processor = AutoImageProcessor.from_pretrained(
                place.name, backend="pil", **options
            )
        return processor

    def _config(self) -> Any:
        from transformers import (
            CONFIG_MAPPING,
            MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
            AutoConfig,
            PreTrainedConfig,
        )

        place = self.checkpoint.weights
        with reading(place, "its configuration"):
            settings, _ = PreTrainedConfig.get_config_dict(place.name, **place.options)
            kind = settings.get("model_type")
            if kind not in CONFIG_MAPPING:
                raise self._misfit(f"transformers knows no model of type {kind!r}")
            if CONFIG_MAPPING[kind] not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
                raise self._misfit(f"a model of type {kind!r} reads no images with text")
            return AutoConfig.from_pretrained(place.name, trust_remote_code=False, **place.options)

    def _try(self, processor: Any) -> None:
        """Compare rows of a chat with the output of the processor for the same chat."""
        images = [Image.new("RGB", size) for size in _TRIED]
        content = [{"type": "image"}, {"type": "text", "text": "How good is it?"}]
        self.token = self.tokenizer.convert_ids_to_tokens(self.image_id)
        self.around = ("", "")
        prompt = self.prompt([{"role": "user", "content": content}])
        made = [processor(text=prompt, images=image, return_tensors="pt") for image in images]
        extra = set(made[0]) - _TOLD
        if extra:
            raise self._misfit(f"its decoder also takes {', '.join(sorted(extra))}")
        shapes = [tuple(item["pixel_values"].shape) for item in made]
        if len({shape[-3:] for shape in shapes}) > 1 or len(shapes[0]) not in (4, 5):
            raise self._misfit("an image does not become tiles of one size")
        self.takes_sizes = "image_sizes" in made[0]
        self.around = self._around(
            processor(text=self.token, images=images[0], return_tensors="pt")["input_ids"][0]
        )
        see = TileTransform(processor, self.token, self.image_id)
        for image, item in zip(images, made, strict=True):
            row = self.encode_chat(ask(f"{IMAGE}How good is it?", see(image)))
            if row.ids.tolist() != item["input_ids"][0].tolist():
                raise self._misfit("its image tokens are not one run of one token")

    def _around(self, made: Tensor) -> tuple[str, str]:
        """Texts that the processor puts before and behind an image, which it made ``[L]`` of."""
        ids, outside = made.tolist(), set(self.tokenizer("")["input_ids"])
        if self.image_id not in ids:
            raise self._misfit("an image becomes no image token")
        first, last = ids.index(self.image_id), len(ids) - ids[::-1].index(self.image_id)
        before, behind = (
            self.tokenizer.decode([token for token in tokens if token not in outside])
            for tokens in (ids[:first], ids[last:])
        )
        return before, behind

    def _misfit(self, why: str) -> InputError:
        return InputError(
            f"{self.checkpoint.pretrained} is no model for AutoChat: {why}. Take a model of type "
            f"{', '.join(PASSED)}; {', '.join(KINDS)} with QwenVL; or mplug_owl2 with MplugOwl2, "
            "all of which the tests check; or write a backbone (docs/add-a-backbone.md)"
        )

    def prompt(self, messages: Sequence[dict[str, Any]]) -> str:
        """See `TemplatedModel`; with the tokens that the processor puts around an image."""
        before, behind = self.around
        return super().prompt(messages).replace(self.token, f"{before}{self.token}{behind}")

    def _read(self) -> Any:
        from transformers import AutoModelForImageTextToText

        model = read_weights(
            AutoModelForImageTextToText,
            self.checkpoint.weights,
            self.tuning.loading(self._not_decoder()),
            self.checkpoint.adapter,
        )
        if self.max_tiles and hasattr(model.config, "image_grid_pinpoints"):
            images = self.processor.image_processor
            model.config.image_grid_pinpoints = images.image_grid_pinpoints
        return model

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
    def image_transform(self) -> TileTransform:
        """From an image to ``[T, 3, H + 1, W]``, see `Tiles`."""
        self.prepare()
        return TileTransform(self.processor, self.token, self.image_id)

    def image_width(self, pixels: Tensor) -> int:
        """Number of positions of an image."""
        return Tiles.of(pixels).positions

    def place(self, image: Tensor, pixels: Tensor | None) -> Tensor:
        """Positions ``[1, L]``."""
        return torch.arange(len(image))[None]

    def image_features(self, pixels: Sequence[Tensor]) -> Tensor:
        """``[T, 3, H + 1, W]`` each to ``[positions of all, D]``."""
        images = [Tiles.of(each) for each in pixels]
        sizes = torch.tensor([(image.height, image.width) for image in images])
        tiles = torch.cat([image.tiles for image in images]).to(self.model.dtype)
        more = {"image_sizes": sizes} if self.takes_sizes else {}
        features = self.model.get_image_features(pixel_values=tiles, **more).pooler_output
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


def _parts(model: Any) -> dict[Part, list[nn.Module]]:
    base = model.base_model
    decoder, tower = model.get_decoder(), model.get_encoder(modality="image")
    others = [module for module in base.children() if module not in (decoder, tower)]
    # Such as the embedding that ends a row of LLaVA-OneVision's image.
    alone = [nn.ParameterList([weight]) for weight in base._parameters.values()]
    head = model.get_output_embeddings()
    return {"vision": [tower], "bridge": [*alone, *others], "language": [decoder, head]}
