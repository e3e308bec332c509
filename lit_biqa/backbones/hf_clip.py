"""CLIP's image tower as transformers names it, under the names of open_clip."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from lit_biqa.backbones.transforms import Frame
from lit_biqa.types import InputError

_EPS = 1e-5  # of open_clip's norms
_BICUBIC, _BILINEAR = 3, 2  # Pillow's numbers, in preprocessor_config.json
_OUTER = {
    "vision_model.embeddings.class_embedding": "class_embedding",
    "vision_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.embeddings.patch_embedding.weight": "conv1.weight",
    "vision_model.pre_layrnorm.weight": "ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "ln_pre.bias",
    "vision_model.post_layernorm.weight": "ln_post.weight",
    "vision_model.post_layernorm.bias": "ln_post.bias",
}
_INNER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_BLOCK = re.compile(r"vision_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")


def tower_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the image tower under open_clip's names, without ``visual.``.

    Args:
        state: weights of a `CLIPModel`; those of the text tower are left out.

    Raises:
        InputError: if a part of the tower is missing, or a weight is unknown.
    """
    named: dict[str, Tensor] = {}
    joint: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.startswith("vision_model.") and not name.endswith(".position_ids"):
            _place(name, value, named, joint)
    try:
        for name, parts in joint.items():
            named[name] = torch.cat([parts[side] for side in "qkv"])
        named["proj"] = state["visual_projection.weight"].T.contiguous()
    except KeyError as error:
        raise InputError(f"the image tower of CLIP lacks {error}") from error
    return named


def _place(
    name: str, value: Tensor, named: dict[str, Tensor], joint: dict[str, dict[str, Tensor]]
) -> None:
    """Put a weight under its name, or among the three that become one."""
    if name in _OUTER:
        named[_OUTER[name]] = value
        return
    match = _BLOCK.fullmatch(name)
    place, part, kind = match.groups() if match else ("", "", "")
    block = f"transformer.resblocks.{place}"
    if part in _INNER:
        named[f"{block}.{_INNER[part]}.{kind}"] = value
    elif part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
        joint.setdefault(f"{block}.attn.in_proj_{kind}", {})[part[10]] = value
    else:
        raise InputError(f"{name} is no weight of CLIP's image tower")


def tower_settings(
    model: Mapping[str, Any], pixels: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """Settings from which a scorer file rebuilds the tower.

    Args:
        model: ``config.json`` of a `CLIPModel`.
        pixels: its ``preprocessor_config.json``.
        name: name of the model, for people.

    Raises:
        InputError: for a tower or pixels that open_clip's has no settings for.
    """
    # What the file leaves out takes transformers' defaults.
    from transformers import CLIPConfig

    config = CLIPConfig.from_dict(dict(model))
    vision = config.vision_config
    if vision.hidden_act not in ("quick_gelu", "gelu") or vision.layer_norm_eps != _EPS:
        raise InputError(
            f"hidden_act {vision.hidden_act}, layer_norm_eps {vision.layer_norm_eps}: known are "
            f"quick_gelu and gelu, and {_EPS}"
        )
    tower = {
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "width": vision.hidden_size,
        "head_width": vision.hidden_size // vision.num_attention_heads,
        "layers": vision.num_hidden_layers,
        "mlp_ratio": vision.intermediate_size / vision.hidden_size,
    }
    frame = asdict(_frame(pixels, vision.image_size))
    described = {
        "embed_dim": config.projection_dim,
        "quick_gelu": vision.hidden_act == "quick_gelu",
        "vision_cfg": tower,
    }
    return {
        "kind": "open_clip",
        "model": name,
        "config": described,
        "dim": config.projection_dim,
        "frame": frame,
    }


def _frame(pixels: Mapping[str, Any], side: int) -> Frame:
    """Frame of ``preprocessor_config.json``, whose sizes are numbers in older files."""
    sizes = [_side(pixels.get("size", side)), _side(pixels.get("crop_size", side))]
    resample = pixels.get("resample", _BICUBIC)
    if sizes != [side, side] or resample not in (_BICUBIC, _BILINEAR):
        raise InputError(
            f"preprocessor_config.json: size and crop {sizes}, resample {resample}: known are "
            f"{side} for both, the tower's image_size, and bicubic (3) or bilinear (2)"
        )
    usual = Frame(side)
    return Frame(
        side,
        mean=tuple(pixels.get("image_mean", usual.mean)),
        std=tuple(pixels.get("image_std", usual.std)),
        bicubic=resample == _BICUBIC,
    )


def _side(size: Any) -> int:
    if isinstance(size, dict):
        size = size.get("shortest_edge") or size.get("height") or 0
    return int(size)
