"""Weights written in transformers' layout, updates of LoRA merged into them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_biqa.backbones.tuning import Tuning
from lit_biqa.types import InputError

_BASE = ".base_layer.weight"


def save_weights(
    folder: Path, model: Any, state: dict[str, Tensor], tuning: Tuning, *settings: Any
) -> None:
    """Write a folder that ``from_pretrained`` reads, whole or not at all.

    Args:
        folder: is made, or replaced.
        model: of transformers; its configuration is written, its weights are not read.
        state: weights of the backbone, keys ``model....``, whole and on the CPU.
        tuning: of the run; tells the scale of LoRA's updates.
        settings: what else has a ``save_pretrained``: tokenizer, image settings, processor.

    Raises:
        InputError: if it cannot be written.
    """
    from huggingface_hub import save_torch_state_dict

    named = {name.removeprefix("model."): weight for name, weight in state.items()}
    weights = {name: w.to(tuning.dtype) for name, w in merged(named, tuning).items()}
    if model.config.get_text_config().tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_torch_state_dict(weights, part, metadata={"format": "pt"})
        for each in (_plain(model.config), *settings):
            each.save_pretrained(part)
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error}. Make room and repeat.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def merged(state: dict[str, Tensor], tuning: Tuning) -> dict[str, Tensor]:
    """Weights under the names of a model without LoRA, its updates added in float32.

    Source: Hu et al. (arXiv 2106.09685), equation 3: ``W + (alpha / rank) B A``.
    """
    plain: dict[str, Tensor] = {}
    for name, weight in state.items():
        stem = name.removesuffix(_BASE)
        if stem != name:
            down, up = (state[f"{stem}.lora_{side}.default.weight"].float() for side in "AB")
            update = up @ down * (tuning.alpha / tuning.rank)
            plain[f"{stem}.weight"] = _whole(name, state).float() + update
        elif ".lora_" not in name and f"{_BASE}." not in name:
            plain[name.replace(".base_layer.", ".")] = weight
    return plain


def _whole(name: str, state: dict[str, Tensor]) -> Tensor:
    """A weight, out of its 4 bits if it is packed."""
    packed = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
    if not packed:
        return state[name]
    from bitsandbytes.functional import QuantState, dequantize_4bit

    told = QuantState.from_dict(packed, device=torch.device("cpu"))
    weight: Tensor = dequantize_4bit(state[name], told)
    return weight


def _plain(config: Any) -> Any:
    """The configuration of weights that are not quantised."""
    plain = type(config).from_dict(config.to_dict())
    if hasattr(plain, "quantization_config"):
        del plain.quantization_config
    return plain


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Weights of a module on the CPU."""
    return {name: weight.detach().cpu() for name, weight in model.state_dict().items()}
