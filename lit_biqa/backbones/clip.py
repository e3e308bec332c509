"""CLIP, SigLIP and all other architectures of open_clip."""

from __future__ import annotations

import json
import pickle
import textwrap
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_biqa import limits
from lit_biqa.backbones.base import ImageTextEncoder
from lit_biqa.backbones.hf_clip_folder import describe, read_clip
from lit_biqa.backbones.long_texts import embed_long
from lit_biqa.backbones.transforms import CLIP_MEAN, CLIP_STD, CentreCrop, Frame, RandomCrop
from lit_biqa.io.files import refuse_special
from lit_biqa.types import InputError, check_range, nearest

FOLDER = "local-dir:"
TRANSFORMERS = "transformers:"


class OpenClip(ImageTextEncoder):
    """An image and a text tower of open_clip.

    Args:
        model: name of an open_clip architecture, such as ``ViT-L-14-336-quickgelu``, or
            ``local-dir:FOLDER`` with an ``open_clip_config.json`` and weights, or
            ``transformers:NAME`` with a folder of a `CLIPModel` or its name on the hub, such as
            ``openai/clip-vit-large-patch14-336``. OpenAI's weights need the ``-quickgelu``
            architectures.
        pretrained: a tag such as ``openai``, the path of a weights file, or ``null`` for random
            weights. Pickled files are read with ``weights_only``. The last two forms of `model`
            have their own weights.
        freeze_text: freeze the text tower, as RALI does.
        freeze_scale: freeze the temperature of the softmax.
        long_texts: handling of texts longer than the context (77 tokens in CLIP, less than most
            reasoning texts): ``sentences`` averages the embeddings of the sentences, ``truncate``
            cuts.
        crop_margin: training crops come from an image scaled to this much more than they need; 0
            scales as in a test and moves only along the longer side.

    Raises:
        InputError: if there is no such architecture, folder, tag or file, if the weights need
            another architecture, or if images would become too large.
    """

    def __init__(
        self,
        model: str = "ViT-L-14-336-quickgelu",
        pretrained: str | None = "openai",
        freeze_text: bool = True,
        freeze_scale: bool = True,
        long_texts: Literal["sentences", "truncate"] = "sentences",
        crop_margin: float = 0.1,
    ) -> None:
        super().__init__()
        self.model, self.pretrained = model, pretrained
        self.freeze_text, self.freeze_scale = freeze_text, freeze_scale
        self.long_texts = long_texts
        if model.startswith(TRANSFORMERS):
            self.config, self.frame = describe(model.removeprefix(TRANSFORMERS))
        else:
            self.config = _config(model)
            _check_weights(model, pretrained, self.config)
            self.frame = _frame(model, pretrained, self.config)
        self.dim = int(self.config["embed_dim"])
        check_range("encoder.crop_margin", crop_margin, 0, limits.TOWER_SIDE / self.frame.size - 1)
        self.train_transform = RandomCrop(replace(self.frame, margin=crop_margin))
        self.eval_transform = CentreCrop(self.frame)
        self.clip: Any = None

    @property
    def loaded(self) -> bool:
        """True once the towers exist."""
        return self.clip is not None

    def load(self) -> None:
        """Make both towers, read their weights and freeze."""
        if self.model.startswith(TRANSFORMERS):
            from open_clip.tokenizer import SimpleTokenizer

            self.clip = read_clip(self.model.removeprefix(TRANSFORMERS), self.config)
            self.tokenizer = SimpleTokenizer(
                context_length=self.config["text_cfg"]["context_length"]
            )
        else:
            self._create()
        self._freeze()

    def _create(self) -> None:
        import open_clip

        from_folder = self.model.startswith(FOLDER)
        source = None if from_folder else self.pretrained
        required = from_folder or source is not None
        try:
            self.clip = open_clip.create_model(
                self.model, source, load_weights=required, require_pretrained=required
            )
            self.tokenizer = open_clip.get_tokenizer(self.model)
        except Exception as error:  # broken weight files can raise any error
            raise InputError(
                f"open_clip cannot load {self.model} with pretrained={self.pretrained}: "
                f"{_reason(error)} Give weights of this architecture (.safetensors, or a .pt that "
                f"holds only tensors), a tag whose weights can be downloaded or are in "
                f"open_clip's cache, or pretrained=null for random weights."
            ) from error

    def _freeze(self) -> None:
        if self.freeze_text:
            self.clip.lock_text_tower(unlocked_layers=0, freeze_layer_norm=True)
        for name in ("logit_scale", "logit_bias"):
            value = getattr(self.clip, name)
            if value is not None:
                # FSDP cannot shard a scalar. The bias (of SigLIP) does not affect this softmax.
                trained = name == "logit_scale" and not self.freeze_scale
                setattr(self.clip, name, nn.Parameter(value.detach().reshape(1), trained))

    def embed_images(self, pixels: Tensor) -> Tensor:
        """``[B, 3, H, W] -> [B, D]``."""
        features: Tensor = self.clip.encode_image(pixels)
        return features

    def embed_texts(self, texts: list[str]) -> Tensor:
        """B texts to ``[B, D]``; see ``long_texts``."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_text):
            if self.long_texts == "sentences":
                return embed_long(texts, self._encode)
            return self._encode(texts)

    def _encode(self, texts: list[str]) -> Tensor:
        features: Tensor = self.clip.encode_text(self.tokenizer(texts).to(self.device))
        return F.normalize(features, dim=1)

    @property
    def scale(self) -> Tensor:
        """Inverse temperature, at most 100 as in CLIP."""
        scale: Tensor = self.clip.logit_scale
        return scale.exp().clamp(max=100.0)

    @property
    def image_tower(self) -> nn.Module:
        """The image tower with its projection."""
        tower: nn.Module = self.clip.visual
        return tower

    def blocks(self) -> list[nn.Module]:
        """Transformer blocks of both towers, or the stages of a convolutional one."""
        names = ("ResidualAttentionBlock", "Block", "ConvNeXtStage")
        return [part for part in self.clip.modules() if type(part).__name__ in names]

    def settings(self) -> dict[str, Any]:
        """Architecture, and the frame of its pixels."""
        return {
            "kind": "open_clip",
            "model": self.model,
            "config": self.config,
            "dim": self.dim,
            "frame": asdict(self.frame),
        }


def _config(model: str) -> dict[str, Any]:
    """Configuration of an architecture, before any weights are read."""
    import open_clip

    if model.startswith(FOLDER):
        config: dict[str, Any] = _described(model)["model_cfg"]
        return config
    architectures = open_clip.list_models()
    if model not in architectures:
        raise InputError(f"open_clip has no architecture {model!r}{nearest(model, architectures)}")
    config = open_clip.get_model_config(model)
    if "multimodal_cfg" in config:
        raise InputError(f"{model} generates captions; choose a two-tower model such as ViT-B-32.")
    return config


def _described(model: str) -> dict[str, Any]:
    """Description of architecture and pixels in a model's folder."""
    path = Path(model.removeprefix(FOLDER)) / "open_clip_config.json"
    try:
        refuse_special(path)
        described: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = {"embed_dim", "vision_cfg", "text_cfg"} - set(described["model_cfg"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        if (path.parent / "config.json").is_file() and not path.exists():
            raise InputError(
                f"{path.parent} is no folder of open_clip. If transformers wrote it, name it as "
                f"model={TRANSFORMERS}{path.parent}"
            ) from error
        raise InputError(
            f"{path}: no description of a model ({type(error).__name__}: {error}); give a folder "
            f"written by open_clip, with model_cfg in this file (model={model})."
        ) from error
    if missing:
        raise InputError(f"{path}: model_cfg lacks {', '.join(sorted(missing))}")
    return described


def _check_weights(model: str, pretrained: str | None, config: dict[str, Any]) -> None:
    """Refuse weights that do not exist or were trained with another activation."""
    import open_clip

    if pretrained is None or model.startswith(FOLDER):
        return
    settings = open_clip.get_pretrained_cfg(model, pretrained)
    if not settings and not Path(pretrained).is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise InputError(
            f"pretrained={pretrained} is no file, and no tag of {model} (its tags: {tags}). "
            f"Name weights in a folder as model={FOLDER}PATH."
        )
    quick = f"{model}-quickgelu"
    differs = settings.get("quick_gelu", False) and not config.get("quick_gelu", False)
    if differs and quick in open_clip.list_models():
        raise InputError(
            f"the weights {pretrained} of {model} were trained with QuickGELU: set model={quick}."
        )


def _reason(error: Exception) -> str:
    """Why weights cannot be loaded, in one line; open_clip's message may name every tensor."""
    if isinstance(error, pickle.UnpicklingError):
        return "the file holds more than tensors, and nothing else is unpickled."
    return textwrap.shorten(f"{type(error).__name__}: {error}", 300)


def _frame(model: str, pretrained: str | None, config: dict[str, Any]) -> Frame:
    """Frame of the pixels that the weights were trained on, from the tag if open_clip knows it."""
    import open_clip

    if model.startswith(FOLDER):
        settings = _described(model).get("preprocess_cfg", {})
    else:
        settings = open_clip.get_pretrained_cfg(model, pretrained) if pretrained else {}
    mode = str(settings.get("resize_mode") or "shortest")
    if mode not in ("shortest", "squash"):
        raise InputError(f"{model} pads images (resize_mode {mode}), which is not supported here.")
    size = settings.get("size") or config["vision_cfg"].get("image_size", 224)
    return Frame(
        size=int(size if isinstance(size, int) else size[0]),
        mode=mode,
        mean=tuple(settings.get("mean") or CLIP_MEAN),
        std=tuple(settings.get("std") or CLIP_STD),
        bicubic=(settings.get("interpolation") or "bicubic") == "bicubic",
    )
