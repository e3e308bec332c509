"""Backbones without weights: their modules on the meta device, built from configuration alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lit_biqa.backbones.auto_chat import PASSED, AutoChat
from lit_biqa.backbones.owl2 import MplugOwl2
from lit_biqa.backbones.places import check_there
from lit_biqa.backbones.qwen_vl import KINDS, QwenVL
from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.backbones.weights import read_config
from lit_biqa.planning.architectures import ARCHITECTURES
from lit_biqa.types import InputError

PRETRAINED = "--model.init_args.backbone.init_args.pretrained"
_KINDS: Mapping[type, Sequence[str]] = {QwenVL: KINDS, MplugOwl2: ("mplug_owl2",), AutoChat: PASSED}


def outline(backbone: VisionLanguageModel) -> None:
    """Give a backbone its modules on the meta device, frozen and with LoRA as its tuning says.

    Args:
        backbone: not loaded; of the class `QwenVL`, `MplugOwl2` or `AutoChat`, of any size.

    Raises:
        InputError: for another backbone, or if its configuration cannot be read here.
    """
    if isinstance(backbone, (TinyQwenVL, TinyMplugOwl2)):
        backbone.prepare()
        with torch.device("meta"):
            model = backbone._read()
    else:
        model = _without_weights(backbone)
    with torch.device("meta"):
        backbone._adopt(model)


def _without_weights(backbone: VisionLanguageModel) -> Any:
    from transformers import AutoModelForImageTextToText

    from lit_biqa.backbones.mplug_owl2 import MplugOwl2ForConditionalGeneration

    config = _config(backbone)
    with torch.device("meta"):
        if isinstance(backbone, MplugOwl2):
            model = MplugOwl2ForConditionalGeneration(config)
        else:
            model = AutoModelForImageTextToText.from_config(config)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(backbone.tuning.dtype)
    return model.eval()


def _config(backbone: VisionLanguageModel) -> Any:
    """Configuration of the table, or of a local folder."""
    from transformers import AutoConfig

    if not isinstance(backbone, (QwenVL, MplugOwl2, AutoChat)):
        raise InputError(
            f"{type(backbone).__name__} is not planned: take a backbone of the class QwenVL, "
            "MplugOwl2 or AutoChat"
        )
    kinds = next(kinds for kind, kinds in _KINDS.items() if isinstance(backbone, kind))
    name = backbone.checkpoint.pretrained
    known = ARCHITECTURES.get(name)
    if known is not None and known["model_type"] in kinds:
        return AutoConfig.for_model(**known)
    same = next(name for name, sizes in ARCHITECTURES.items() if sizes["model_type"] in kinds)
    advice = f"name a folder with its config.json, or a model of the same size: {PRETRAINED}={same}"
    try:
        check_there(name)
    except InputError as error:
        raise InputError(f"{name} does not exist yet: {advice}") from error
    if not Path(name).exists():
        raise InputError(f"the sizes of {name} are not known here: {advice}")
    return read_config(backbone.checkpoint.configuration, *kinds)
