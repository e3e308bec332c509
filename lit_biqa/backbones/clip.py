"""CLIP, SigLIP and every other architecture of open_clip."""

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
from lit_biqa.backbones.long_texts import embed_long
from lit_biqa.backbones.transforms import CLIP_MEAN, CLIP_STD, CentreCrop, Frame, RandomCrop
from lit_biqa.io.files import refuse_special
from lit_biqa.types import InputError, check_range, nearest

FOLDER = "local-dir:"


class OpenClip(ImageTextEncoder):
    """An image and a text tower of open_clip.

    Args:
        model: name of an architecture that open_clip knows, such as ``ViT-L-14-336-quickgelu``,
            or ``local-dir:FOLDER`` with an ``open_clip_config.json`` and weights. The weights
            that OpenAI published need the ``-quickgelu`` architectures.
        pretrained: a tag such as ``openai``, the path of a weights file, or ``null`` for random
            weights. Pickled files are read with ``weights_only``. A folder brings its own.
        freeze_text: keep the text tower as it is, as RALI does.
        freeze_scale: keep the temperature of the softmax as it is.
        long_texts: what happens to texts longer than the context (77 tokens in CLIP, less than
            most reasoning): ``sentences`` embeds each sentence and averages, ``truncate`` cuts.
        crop_margin: training crops are taken from an image scaled to this much more than they
            need; 0 scales as at test and moves along the longer side only.

    Raises:
        InputError: if there is no such architecture, folder, tag or file, the weights need
            another architecture, or images would become too large.
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
        self.config = _config(model)
        _check_weights(model, pretrained, self.config)
        self.dim = int(self.config["embed_dim"])
        self.frame = _frame(model, pretrained, self.config)
        check_range("encoder.crop_margin", crop_margin, 0, limits.TOWER_SIDE / self.frame.size - 1)
        self.train_transform = RandomCrop(replace(self.frame, margin=crop_margin))
        self.eval_transform = CentreCrop(self.frame)
        self.clip: Any = None

    @property
    def loaded(self) -> bool:
        """Whether the towers exist."""
        return self.clip is not None

    def load(self) -> None:
        """Make both towers, read their weights, freeze."""
        import open_clip

        from_folder = self.model.startswith(FOLDER)
        source = None if from_folder else self.pretrained
        wanted = from_folder or source is not None
        try:
            self.clip = open_clip.create_model(
                self.model, source, load_weights=wanted, require_pretrained=wanted
            )
            self.tokenizer = open_clip.get_tokenizer(self.model)
        except Exception as error:  # broken files of weights fail in every way there is
            raise InputError(
                f"open_clip cannot load {self.model} with pretrained={self.pretrained}: "
                f"{_reason(error)} Give weights of this architecture (.safetensors, or a .pt "
                f"that holds tensors alone), a tag whose weights can be fetched or are in "
                f"open_clip's cache, or pretrained=null for random weights."
            ) from error
        if self.freeze_text:
            self.clip.lock_text_tower(unlocked_layers=0, freeze_layer_norm=True)
        for name in ("logit_scale", "logit_bias"):
            value = getattr(self.clip, name)
            if value is not None:
                # FSDP cannot shard a scalar. The bias (SigLIP) has no part in this softmax.
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
        """The architecture and the frame of its pixels."""
        return {
            "kind": "open_clip",
            "model": self.model,
            "config": self.config,
            "dim": self.dim,
            "frame": asdict(self.frame),
        }


def _config(model: str) -> dict[str, Any]:
    """Architecture of a model, before any weights are read."""
    import open_clip

    if model.startswith(FOLDER):
        config: dict[str, Any] = _described(model)["model_cfg"]
        return config
    known = open_clip.list_models()
    if model not in known:
        raise InputError(f"open_clip has no architecture {model!r}{nearest(model, known)}")
    config = open_clip.get_model_config(model)
    if "multimodal_cfg" in config:
        raise InputError(f"{model} writes captions; take a model of two towers, such as ViT-B-32.")
    return config


def _described(model: str) -> dict[str, Any]:
    """What the folder of a model says of its architecture and its pixels."""
    path = Path(model.removeprefix(FOLDER)) / "open_clip_config.json"
    try:
        refuse_special(path)
        described: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = {"embed_dim", "vision_cfg", "text_cfg"} - set(described["model_cfg"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: no description of a model ({type(error).__name__}: {error}); give a folder "
            f"as open_clip writes it, with model_cfg in this file (model={model})."
        ) from error
    if missing:
        raise InputError(f"{path}: model_cfg lacks {', '.join(sorted(missing))}")
    return described


def _check_weights(model: str, pretrained: str | None, config: dict[str, Any]) -> None:
    """Refuse weights that are not there or were trained on another activation."""
    import open_clip

    if pretrained is None or model.startswith(FOLDER):
        return
    known = open_clip.get_pretrained_cfg(model, pretrained)
    if not known and not Path(pretrained).is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise InputError(
            f"pretrained={pretrained} is no file, and no tag of {model} (its tags: {tags}). "
            f"Weights in a folder are named as model={FOLDER}PATH."
        )
    quick = f"{model}-quickgelu"
    differs = known.get("quick_gelu", False) and not config.get("quick_gelu", False)
    if differs and quick in open_clip.list_models():
        raise InputError(
            f"the weights {pretrained} of {model} were trained with QuickGELU: set model={quick}."
        )


def _reason(error: Exception) -> str:
    """One line on why weights cannot be loaded; open_clip's may name every tensor."""
    if isinstance(error, pickle.UnpicklingError):
        return "the file is no archive of tensors alone, and nothing else is unpickled."
    return textwrap.shorten(f"{type(error).__name__}: {error}", 300)


def _frame(model: str, pretrained: str | None, config: dict[str, Any]) -> Frame:
    """Pixels that the weights were trained on: of the tag where open_clip knows it."""
    import open_clip

    if model.startswith(FOLDER):
        known = _described(model).get("preprocess_cfg", {})
    else:
        known = open_clip.get_pretrained_cfg(model, pretrained) if pretrained else {}
    mode = str(known.get("resize_mode") or "shortest")
    if mode not in ("shortest", "squash"):
        raise InputError(f"{model} pads images (resize_mode {mode}), which is not done here.")
    size = known.get("size") or config["vision_cfg"].get("image_size", 224)
    return Frame(
        size=int(size if isinstance(size, int) else size[0]),
        mode=mode,
        mean=tuple(known.get("mean") or CLIP_MEAN),
        std=tuple(known.get("std") or CLIP_STD),
        bicubic=(known.get("interpolation") or "bicubic") == "bicubic",
    )
