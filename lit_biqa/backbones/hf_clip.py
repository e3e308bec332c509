"""Weights of CLIP under the names of transformers and under those of open_clip."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from lit_biqa.types import InputError

_VISION = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "pre_layrnorm.weight": "ln_pre.weight",
    "pre_layrnorm.bias": "ln_pre.bias",
    "post_layernorm.weight": "ln_post.weight",
    "post_layernorm.bias": "ln_post.bias",
}
_TEXT = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_INNER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_BLOCK = re.compile(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_OPEN_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)")


def tower_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the image tower under open_clip's names, without ``visual.``.

    Args:
        state: weights of a `CLIPModel`; those of the text tower are left out.

    Raises:
        InputError: if a part of the tower is missing, or a weight is unknown.
    """
    named = _renamed(state, "vision_model.", _VISION)
    return named | {"proj": _projection(state, "visual_projection.weight")}


def clip_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of both towers under open_clip's names.

    Args:
        state: weights of a `CLIPModel`.

    Raises:
        InputError: if a part of a tower is missing, or a weight is unknown.
    """
    image = {f"visual.{name}": value for name, value in tower_weights(state).items()}
    text = _renamed(state, "text_model.", _TEXT)
    text["text_projection"] = _projection(state, "text_projection.weight")
    return image | text | {"logit_scale": state["logit_scale"]}


def _projection(state: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise InputError(f"CLIP lacks {name}")
    return state[name].T.contiguous()


def _renamed(
    state: Mapping[str, Tensor], prefix: str, outer: Mapping[str, str]
) -> dict[str, Tensor]:
    """One tower under open_clip's names."""
    named: dict[str, Tensor] = {}
    joint: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if not name.startswith(prefix) or name.endswith(".position_ids"):
            continue
        within = name.removeprefix(prefix)
        match = _BLOCK.fullmatch(within)
        place, part, kind = match.groups() if match else ("", "", "")
        block = f"transformer.resblocks.{place}"
        if within in outer:
            named[outer[within]] = value
        elif part in _INNER:
            named[f"{block}.{_INNER[part]}.{kind}"] = value
        elif part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
            joint.setdefault(f"{block}.attn.in_proj_{kind}", {})[part[10]] = value
        else:
            raise InputError(f"{name} is no weight of CLIP")
    for name, parts in joint.items():
        if len(parts) < 3:
            raise InputError(f"CLIP lacks a part of {prefix}{name}")
        named[name] = torch.cat([parts[side] for side in "qkv"])
    return named


def hf_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of a `CLIPModel`: the reverse of `clip_weights`.

    Args:
        weights: of open_clip's ViT and text tower, or of the image tower alone, with ``visual.``.

    Raises:
        InputError: for a weight that transformers' CLIP has not.
    """
    named: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name == "logit_scale":
            named[name] = value.reshape(())
        elif name == "visual.proj":
            named["visual_projection.weight"] = value.T.contiguous()
        elif name == "text_projection":
            named["text_projection.weight"] = value.T.contiguous()
        elif name.startswith("visual."):
            named |= _under_hf_name(name.removeprefix("visual."), value, "vision_model.", _VISION)
        else:
            named |= _under_hf_name(name, value, "text_model.", _TEXT)
    return named


def _under_hf_name(
    name: str, value: Tensor, prefix: str, outer: Mapping[str, str]
) -> dict[str, Tensor]:
    """One weight of a tower; three for the joint projection of an attention."""
    whole = {ours: theirs for theirs, ours in outer.items()}
    if name in whole:
        return {prefix + whole[name]: value}
    match = _OPEN_BLOCK.fullmatch(name)
    place, part, kind = match.groups() if match else ("", "", "")
    inner = {ours: theirs for theirs, ours in _INNER.items()}
    block = f"{prefix}encoder.layers.{place}"
    if part == "attn.in_proj":
        sides = zip("qkv", value.chunk(3), strict=True)
        return {f"{block}.self_attn.{side}_proj.{kind}": rows.clone() for side, rows in sides}
    if part not in inner:
        raise InputError(f"transformers' CLIP has no {name}: only OpenAI's architecture is written")
    return {f"{block}.{inner[part]}.{kind}": value}
