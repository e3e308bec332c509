"""LoRA adapters of peft and of LLaVA's trainers, merged into the weights they belong to."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_biqa.backbones.layout import ADAPTER, adapter_settings
from lit_biqa.backbones.places import Place
from lit_biqa.types import InputError

_TRAINED = ("adapter_model.safetensors", "adapter_model.bin")
_WHOLE = "non_lora_trainables.bin"  # weights that LLaVA's trainers train beside the updates
_UPDATE = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")
# Set to these values, peft computes with an adapter what is computed here.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "alpha_pattern": ({}, None),
    "fan_in_fan_out": (False, None),
    "init_lora_weights": (True, False, "gaussian", None),
    "layer_replication": (None,),
}


def merge_adapter(model: Any, place: Place) -> None:
    """Add an adapter's updates to the weights of its base, in place, in float32.

    ``W + (alpha / rank) B A`` (Hu et al., arXiv 2106.09685, equation 3); of rsLoRA with
    ``alpha / sqrt(rank)``. Weights that were trained whole replace those of the base.

    Args:
        model: transformers model with the weights of the base.
        place: of ``adapter_config.json``, the updates and, of LLaVA's trainers,
            ``non_lora_trainables.bin``. Pickled files are read with ``weights_only``.

    Raises:
        InputError: for an adapter that is no plain LoRA, or does not fit the base; names weights.
    """
    from lit_biqa.compat.transformers import current_name

    settings = adapter_settings(place)
    for name, plain in _PLAIN.items():
        if settings.get(name) not in plain:
            raise InputError(
                f"{place}: {name} is {settings[name]!r}; such an adapter is not merged here: merge "
                "it with peft (merge_and_unload) and name the merged folder"
            )
    updates, whole = _split(_read(place))
    if not updates and not whole:
        raise InputError(
            f"{place} holds {ADAPTER} but no weights of an adapter ({', '.join(_TRAINED)}): copy "
            f"them there, or remove {ADAPTER} if the adapter is merged already"
        )
    state, current = model.state_dict(), partial(current_name, model)
    with torch.no_grad():
        for name, value in whole.items():
            target = _target(state, current(name), value.shape, place)
            target.copy_(value)
        for stem, (down, up) in updates.items():
            rank, alpha = down.shape[0], float(settings["lora_alpha"])
            scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
            shape = torch.Size((up.shape[0], down.shape[1]))
            target = _target(state, current(f"{stem}.weight"), shape, place)
            target.copy_(target.float() + scale * (up.float() @ down.float()))


def _read(place: Place) -> dict[str, Tensor]:
    """All tensors of an adapter, without peft's prefix."""
    files = [place.file(name) for name in _TRAINED]
    there = [path for path in files if path is not None][:1]
    extra = place.file(_WHOLE)
    tensors: dict[str, Tensor] = {}
    for path in [*there, *([extra] if extra is not None else [])]:
        tensors |= _load(path)
    return {
        name.removeprefix("base_model.model.").replace(".base_layer.", "."): value
        for name, value in tensors.items()
    }


def _load(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: Mapping[str, Tensor]
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not all(isinstance(value, Tensor) for value in state.values()):
            raise TypeError("it holds more than tensors")
        return state
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} holds more than tensors, and nothing else is read") from error
    except (OSError, RuntimeError, SafetensorError, AttributeError, TypeError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _split(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Tensor]]:
    """Pairs of updates by the layer's name, and weights trained whole."""
    halves: dict[str, dict[str, Tensor]] = {}
    whole = {}
    for name, value in tensors.items():
        if match := _UPDATE.fullmatch(name):
            halves.setdefault(match[1], {})[match[2]] = value
        else:
            whole[name] = value
    for stem, pair in halves.items():
        if len(pair) < 2:
            raise InputError(f"an adapter has only half of its update of {stem}")
    return {stem: (pair["A"], pair["B"]) for stem, pair in halves.items()}, whole


def _target(state: Mapping[str, Tensor], name: str, shape: torch.Size, place: Place) -> Tensor:
    """Weight of the base that a tensor of the adapter belongs to."""
    if name not in state:
        raise InputError(
            f"{place}: the adapter has {name}, which its base has not: name the base that it was "
            "trained on with layout.base; only plain LoRA and whole weights are merged"
        )
    if state[name].shape != shape:
        raise InputError(
            f"{place}: the adapter's {name} is {list(shape)}, its base's {list(state[name].shape)}:"
            " name the base that it was trained on with layout.base"
        )
    return state[name]
