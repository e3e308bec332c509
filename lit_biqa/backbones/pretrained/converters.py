"""Files of packages to folders that timm and transformers read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_biqa.types import InputError

LITE0 = "tf_efficientnet_lite0"


def lite0(source: Path, folder: Path) -> None:
    """Write EfficientNet-Lite0 as timm reads it: ``timm.create_model("local-dir:FOLDER", True)``.

    Args:
        source: state dict with the names of the ``efficientnet_pytorch`` package.
        folder: exists and is empty.

    Raises:
        InputError: if the installed timm builds another network.
    """
    import timm
    from safetensors.torch import save_file

    # Nothing but tensors is unpickled.
    state = torch.load(source, map_location="cpu", weights_only=True)
    model = timm.create_model(LITE0)
    save_file(rename(state, model.state_dict()), folder / "model.safetensors", {"format": "pt"})
    settings = {
        "architecture": LITE0,
        "num_classes": model.num_classes,
        "num_features": model.num_features,
        "pretrained_cfg": {
            "input_size": [3, 224, 224],
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": 0.875,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "num_classes": model.num_classes,
            "pool_size": [7, 7],
            "first_conv": "conv_stem",
            "classifier": "classifier",
            "license": "apache-2.0",
        },
    }
    (folder / "config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")


def rename(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of one state dict under the names of another, matched by their order.

    Example:
        >>> rename({"_bn0.weight": a, "_bn0.bias": b}, {"bn1.weight": c, "bn1.bias": d})
        {'bn1.weight': a, 'bn1.bias': b}

    Args:
        state: weights, in the order in which the network runs.
        wanted: names, with tensors of the same shapes and types in the same order.

    Raises:
        InputError: if numbers, shapes, types or last parts of names (``weight``, ``bias``,
            ``running_mean``, ...) differ.
    """
    pairs = list(zip(state.items(), wanted.items(), strict=False))
    fits = len(state) == len(wanted) and all(
        (old.shape, old.dtype, before.rpartition(".")[2])
        == (new.shape, new.dtype, after.rpartition(".")[2])
        for (before, old), (after, new) in pairs
    )
    if not fits:
        raise InputError(
            f"the installed timm builds another {LITE0} than these weights belong to: install "
            "timm 1.0"
        )
    return {after: weight.contiguous() for (_, weight), (after, _) in pairs}


def smollm2(source: Path, folder: Path) -> None:
    """Write a Llama of a GGUF file as transformers reads it: bfloat16, tokenizer, chat template.

    The model that transformers makes of a GGUF file counts as quantised and cannot be saved; its
    weights go into one that does not.

    Args:
        source: the GGUF file.
        folder: exists and is empty.
    """
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        GgufConfig,
        LlamaConfig,
        LlamaForCausalLM,
    )

    place = {"gguf_file": source.name, "trust_remote_code": False}
    quantised = AutoModelForCausalLM.from_pretrained(
        source.parent,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
        **place,
    )
    settings: dict[str, Any] = {
        name: value
        for name, value in quantised.config.to_dict().items()
        if name != "quantization_config" and not name.startswith("_")
    }
    model = LlamaForCausalLM(LlamaConfig(**settings)).to(torch.bfloat16)
    model.load_state_dict(quantised.state_dict(), strict=True)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source.parent, **place).save_pretrained(folder)
