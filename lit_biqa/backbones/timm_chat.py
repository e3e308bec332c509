"""A vision-language model of a timm network, a projection and a language model of transformers."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_biqa import limits
from lit_biqa.backbones.by_shape import by_shape
from lit_biqa.backbones.composed_model import (
    IMAGE,
    SETTINGS,
    ComposedModel,
    VisionFiles,
    load_projector,
)
from lit_biqa.backbones.frozen import FrozenTower
from lit_biqa.backbones.grid_tower import GridProjector, GridTower
from lit_biqa.backbones.inputs import Row
from lit_biqa.backbones.layout import Checkpoint
from lit_biqa.backbones.precision import Precision, chosen
from lit_biqa.backbones.pretrained.folders import resolve
from lit_biqa.backbones.small_decoder import SmallDecoder
from lit_biqa.backbones.stage_tower import create_network, freeze
from lit_biqa.backbones.templated import TemplatedModel
from lit_biqa.backbones.timm_folder import frame_of, read_settings
from lit_biqa.backbones.transforms import CentreCrop, Evaluate, Frame
from lit_biqa.backbones.tuning import Part, Tuning
from lit_biqa.backbones.weights import read_weights, reading, save_weights
from lit_biqa.types import Chat, InputError, check_range

log = logging.getLogger(__name__)

IMAGE_TOKEN = "<|image_pad|>"
# ChatML, as Qwen2.5 and SmolLM2 were trained with, and an image where the user puts it.
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|image_pad|>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class TimmChat(TemplatedModel):
    """Image features of a timm network, projected into the embeddings of a language model.

    An image takes the place of ``grid * grid + 1`` tokens. If ``tuning.parts`` leaves ``vision``
    out, the features of an image are computed once and kept on disk. The projection is new, so it
    trains in full even with LoRA.

    Args:
        pretrained: folder that `save` wrote, from which image network, projection, language
            model, ``grid`` and ``size`` come; ``None`` to start from ``image`` and ``language``.
        image: ``package:lite0``, or a folder of timm's form.
        language: ``package:smollm2``, a folder of a causal language model of transformers or a hub
            name; or a small decoder of random weights.
        tuning: trained parts, and how they are trained.
        size: most pixels of the shorter side of an image; larger images are scaled down. If
            ``vision`` is trained, all images are scaled to it and cropped to a square.
        grid: cells per side.
        precision: precision of the image network; ``auto`` is bfloat16 where the hardware has it,
            else float32.
        context: most positions of a chat and its answer.
        seed: seed of the random weights.

    Raises:
        InputError: for numbers out of range, and for packages and folders that are missing.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        image: str = "package:lite0",
        language: str | SmallDecoder = "package:smollm2",
        tuning: Tuning = Tuning(parts=("bridge", "language")),
        size: int = 512,
        grid: int = 4,
        precision: Precision = "auto",
        context: int = 2048,
        seed: int = 0,
    ) -> None:
        super().__init__(tuning)
        check_range("backbone.size", size, 32, limits.TOWER_SIDE)
        check_range("backbone.grid", grid, 1, 32)
        check_range("backbone.context", context, 2)
        if isinstance(language, SmallDecoder) and tuning.how == "qlora":
            raise InputError(
                "tuning.how=qlora reads weights from a checkpoint, and a small decoder has none"
            )
        self.pretrained, self.image, self.language = pretrained, image, language
        self.size, self.grid, self.precision = size, grid, precision
        self.context, self.seed = context, seed

    def prepare(self) -> None:
        """Read the settings of all parts, and the tokenizer."""
        if "tokenizer" in self.__dict__:
            return
        if self.pretrained is not None:
            self._take_saved(Path(resolve(self.pretrained)))
        self.image_folder = Path(resolve(self.image))
        described = read_settings(self.image_folder)
        self.architecture = str(described["architecture"])
        self.frame: Frame = frame_of(described, self.size)
        if "vision" in self.tuning.parts:
            # Of one shape, so that all ranks run the sharded network equally often.
            self.frame = replace(self.frame, mode="shortest")
        tokenizer = self._tokenizer()
        if IMAGE_TOKEN not in tokenizer.get_vocab():
            tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
        if "<|im_start|>" not in str(tokenizer.chat_template):
            log.warning("%s has no chat template of ChatML: it gets one", self.language)
        tokenizer.chat_template = _TEMPLATE
        self.image_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        self.end = (tokenizer.eos_token_id,)
        self.tokenizer = self.template = tokenizer

    def _take_saved(self, folder: Path) -> None:
        try:
            saved = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            self.size, self.grid = int(saved["size"]), int(saved["grid"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{folder}: no model that TimmChat saved ({type(error).__name__} in {SETTINGS}): "
                "name the weights/ of its run, or leave `pretrained` out and name `language`"
            ) from error
        self.image, self.language = str(folder / IMAGE), str(folder)

    def _tokenizer(self) -> Any:
        if isinstance(self.language, SmallDecoder):
            return self.language.tokenizer(self.root)
        from transformers import AutoTokenizer

        self.language_folder = resolve(self.language)
        self.checkpoint = Checkpoint(self.language_folder)
        place = self.checkpoint.processor
        with reading(place, "its tokenizer"):
            tokenizer = AutoTokenizer.from_pretrained(place.name, trust_remote_code=False)
        if "<|im_end|>" in tokenizer.get_vocab():
            tokenizer.eos_token = "<|im_end|>"
        return tokenizer

    def _read(self) -> ComposedModel:
        language = self._read_language()
        network = create_network(self.architecture, str(self.image_folder))
        tower = GridTower(network, self.grid, self.precision)
        if "vision" not in self.tuning.parts:
            freeze(tower, self.precision)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            width = language.get_input_embeddings().embedding_dim
            projector = GridProjector(self.grid, tower.cell, tower.whole, width)
        if self.pretrained is not None:
            load_projector(Path(self.language_folder), projector)
        return ComposedModel(tower, projector, language).eval()

    def _read_language(self) -> Any:
        if not isinstance(self.language, SmallDecoder):
            from transformers import AutoModelForCausalLM

            place, adapter = self.checkpoint.weights, self.checkpoint.adapter
            options = self.tuning.loading(["lm_head"])
            return read_weights(AutoModelForCausalLM, place, options, adapter)
        return self.language.build(self.tokenizer, self.context, self.seed, self.tuning.dtype)

    @property
    def image_transform(self) -> Evaluate:
        """Transform from an image to pixels ``[3, H, W]``."""
        self.prepare()
        return CentreCrop(self.frame)

    def frozen_network(self) -> FrozenTower | None:
        """The image network, unless ``vision`` is trained."""
        if "vision" in self.tuning.parts:
            return None
        tower, projector = self.model.tower, self.model.projector
        settings = {
            "architecture": self.architecture,
            "grid": self.grid,
            "precision": chosen(self.precision),
        }
        return FrozenTower(tower, self.frame, tower, settings, projector.observe)

    def encode_chat(self, chat: Chat) -> Row:
        """Encode a chat; the image token may be no word of the decoder, so that 0 stands for it."""
        row = super().encode_chat(chat)
        return replace(row, ids=row.ids.masked_fill(row.image, 0))

    def image_width(self, pixels: Tensor) -> int:
        """Number of positions of an image."""
        return self.grid**2 + 1

    def place(self, image: Tensor, pixels: Tensor | None) -> Tensor:
        """Positions ``[1, L]``."""
        return torch.arange(len(image))[None]

    def image_features(self, pixels: Sequence[Tensor]) -> Tensor:
        """Pixels ``[3, H, W]`` or features ``[F]`` each to ``[n * positions, D]``."""
        features = by_shape(self._extract, pixels)
        embedded: Tensor = self.model.projector(features.float())
        return embedded.flatten(0, 1)

    def _extract(self, batch: Tensor) -> Tensor:
        features: Tensor = batch if batch.ndim == 2 else self.model.tower(batch)
        return features

    @property
    def decoder(self) -> Any:
        """Decoder without its head."""
        return self.model.language.get_decoder()

    @property
    def parts(self) -> dict[Part, list[nn.Module]]:
        """Modules of each part; the projection is the bridge."""
        model = self.model
        return {
            "vision": [model.tower],
            "bridge": [model.projector],
            "language": [self.decoder, self.head],
        }

    @property
    def new_modules(self) -> list[nn.Module]:
        """The projection."""
        return [self.model.projector]

    def blocks(self) -> list[nn.Module]:
        """Layers of the decoder; projection and trained image network, of other data types."""
        tower = [self.model.tower] * ("vision" in self.tuning.parts)
        return [*super().blocks(), *tower, self.model.projector]

    def replicated(self) -> list[nn.Module]:
        """The image network if it is frozen."""
        return [self.model.tower] * ("vision" not in self.tuning.parts)

    @property
    def final_norm(self) -> nn.Module:
        """Norm before the head."""
        norm: nn.Module = self.decoder.norm
        return norm

    def save(self, folder: Path, state: dict[str, Tensor]) -> None:
        """Write the language model, with image network and projection beside it."""
        language = _below("model.language.", state)
        vision = VisionFiles(
            self.architecture,
            {"size": self.size, "grid": self.grid},
            read_settings(self.image_folder),
            _below("model.tower.network.", state),
            _below("model.projector.", state),
        )
        named = {f"model.{name}": weight for name, weight in language.items()}
        save_weights(folder, self.model.language, named, self.tuning, self.tokenizer, vision)


def _below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
