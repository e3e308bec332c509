"""Backbones without weights: their modules on the meta device, built from configuration alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lit_biqa.backbones.owl2 import MplugOwl2
from lit_biqa.backbones.places import check_there
from lit_biqa.backbones.qwen_vl import QwenVL
from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.backbones.weights import read_config
from lit_biqa.planning.architectures import ARCHITECTURES
from lit_biqa.types import InputError

PRETRAINED = "--model.init_args.backbone.init_args.pretrained"


def outline(backbone: VisionLanguageModel) -> None:
    """Give a backbone its modules on the meta device, frozen and with LoRA as its tuning says.

    Args:
        backbone: not loaded; ``Qwen2.5-VL`` or ``mPLUG-Owl2``, of any size.

    Raises:
        InputError: for another backbone, or if its configuration cannot be read here.
    """
    if isinstance(backbone, (TinyQwenVL, TinyMplugOwl2)):
        backbone.prepare()
        with torch.device("meta"):
            model = backbone._read()
    elif isinstance(backbone, (QwenVL, MplugOwl2)):
        model = _without_weights(backbone)
    else:
        raise InputError(
            f"{type(backbone).__name__} is not planned: take a backbone of the class QwenVL or "
            "MplugOwl2"
        )
    with torch.device("meta"):
        backbone._adopt(model)


def _without_weights(backbone: QwenVL | MplugOwl2) -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from lit_biqa.backbones.mplug_owl2 import MplugOwl2Config, MplugOwl2ForConditionalGeneration

    built, settings = (
        (Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLConfig)
        if isinstance(backbone, QwenVL)
        else (MplugOwl2ForConditionalGeneration, MplugOwl2Config)
    )
    config = _config(backbone, settings)
    with torch.device("meta"):
        model = built(config).eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.to(backbone.tuning.dtype)
    return model


def _config(backbone: QwenVL | MplugOwl2, settings: Any) -> Any:
    """Configuration of the table, or of a local folder."""
    name = backbone.checkpoint.pretrained
    known = ARCHITECTURES.get(name)
    if known is not None:
        return settings(**known)
    same = "Qwen/Qwen2.5-VL-7B-Instruct" if isinstance(backbone, QwenVL) else [*ARCHITECTURES][-1]
    advice = f"name a folder with its config.json, or a model of the same size: {PRETRAINED}={same}"
    try:
        check_there(name)
    except InputError as error:
        raise InputError(f"{name} does not exist yet: {advice}") from error
    if not Path(name).exists():
        raise InputError(f"the sizes of {name} are not known here: {advice}")
    return read_config(backbone.checkpoint.configuration, settings.model_type)
