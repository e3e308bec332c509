"""Folders of CLIP as transformers ships it (`CLIPModel`): read, described and written."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_biqa.backbones.hf_clip import clip_weights, hf_weights
from lit_biqa.backbones.transforms import Frame
from lit_biqa.backbones.weights import read_config, read_weights, reading
from lit_biqa.io.files import draft
from lit_biqa.types import InputError

_EPS = 1e-5  # of open_clip's norms
_BICUBIC, _BILINEAR = 3, 2  # Pillow's numbers, in preprocessor_config.json
_VOCABULARY = 49408  # of CLIP's tokenizer, which open_clip carries


def model_cfg(config: Any) -> dict[str, Any]:
    """Open_clip's description of both towers.

    Args:
        config: a `CLIPConfig`.

    Raises:
        InputError: for a tower that open_clip has no settings for, or another tokenizer.
    """
    image, text = config.vision_config, config.text_config
    if text.hidden_act != image.hidden_act or text.layer_norm_eps != _EPS:
        raise InputError("config.json: the text tower has another activation or layer_norm_eps")
    if text.vocab_size != _VOCABULARY:
        raise InputError(
            f"config.json: vocab_size is {text.vocab_size}; the tokenizer of CLIP has {_VOCABULARY}"
        )
    described = {
        "context_length": text.max_position_embeddings,
        "vocab_size": text.vocab_size,
        "width": text.hidden_size,
        "heads": text.num_attention_heads,
        "layers": text.num_hidden_layers,
        "mlp_ratio": text.intermediate_size / text.hidden_size,
    }
    return {**_tower_cfg(config), "text_cfg": described}


def _tower_cfg(config: Any) -> dict[str, Any]:
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
    return {
        "embed_dim": config.projection_dim,
        "quick_gelu": vision.hidden_act == "quick_gelu",
        "vision_cfg": tower,
    }


def tower_settings(
    model: Mapping[str, Any], pixels: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """Settings from which a scorer file rebuilds the image tower.

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
    return {
        "kind": "open_clip",
        "model": name,
        "config": _tower_cfg(config),
        "dim": config.projection_dim,
        "frame": asdict(frame_of(pixels, config.vision_config.image_size)),
    }


def frame_of(pixels: Mapping[str, Any], side: int) -> Frame:
    """Frame of ``preprocessor_config.json``, whose sizes are numbers in older files.

    Raises:
        InputError: if images are not scaled to the tower's size by its shorter side.
    """
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
        mode="floor",
    )


def _side(size: Any) -> int:
    if isinstance(size, dict):
        size = size.get("shortest_edge") or size.get("height") or 0
    return int(size)


def describe(source: str) -> tuple[dict[str, Any], Frame]:
    """Open_clip's description of a `CLIPModel`, and the frame of its pixels; reads no weights.

    Args:
        source: a folder, or a name that transformers can resolve.

    Raises:
        InputError: if a file is absent or broken, or the model is no such CLIP.
    """
    from transformers import CLIPImageProcessorPil

    config = read_config(source, "clip")
    with reading(source, "its image settings"):
        pixels, _ = CLIPImageProcessorPil.get_image_processor_dict(source)
    try:
        return model_cfg(config), frame_of(pixels, config.vision_config.image_size)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def read_clip(source: str, config: Mapping[str, Any]) -> nn.Module:
    """Open_clip's model with the weights of a `CLIPModel`, in float32.

    Args:
        source: a folder, or a name that transformers can resolve.
        config: its description, from `describe`.

    Raises:
        InputError: if weights are missing, unknown or of another shape, or a file is broken.
    """
    import open_clip
    from transformers import CLIPModel

    theirs = read_weights(CLIPModel, source, {"dtype": torch.float32})
    ours: nn.Module = open_clip.CLIP(**config)
    ours.load_state_dict(clip_weights(theirs.state_dict()))
    return ours


def write_clip(
    folder: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any], frame: Frame
) -> None:
    """Write a folder that transformers reads, whole or not at all; an existing one is refused.

    With both towers it is one of `CLIPModel`, with a tokenizer; with the image tower alone one of
    `CLIPVisionModelWithProjection`.

    Args:
        folder: folder to make.
        weights: under open_clip's names; those of the image tower begin with ``visual.``.
        config: open_clip's description; without ``text_cfg`` for the image tower alone.
        frame: of the pixels.

    Raises:
        InputError: if transformers has no such CLIP, or the folder exists or cannot be written.
    """
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPVisionModelWithProjection

    if folder.exists():
        raise InputError(f"{folder} exists and is not replaced: name another folder")
    if frame.mode not in ("shortest", "floor") or config["vision_cfg"].get("timm_model_name"):
        raise InputError("only CLIP's own architecture, a ViT, is written in transformers' layout")
    whole = "text_cfg" in config
    theirs = _config(config)
    with torch.device("meta"):
        model = CLIPModel(theirs) if whole else CLIPVisionModelWithProjection(theirs.vision_config)
    named = {name: value.contiguous() for name, value in hf_weights(weights).items()}
    try:
        model.load_state_dict(named, assign=True)
    except RuntimeError as error:
        raise InputError(f"the weights do not fit their description: {error}") from error
    pixels = CLIPImageProcessorPil(
        size={"shortest_edge": frame.size},
        crop_size={"height": frame.size, "width": frame.size},
        image_mean=list(frame.mean),
        image_std=list(frame.std),
        resample=_BICUBIC if frame.bicubic else _BILINEAR,
    )
    try:
        with draft(folder) as part:
            for item in (model, pixels, *([_tokenizer(config)] if whole else [])):
                item.save_pretrained(part)
            shutil.move(part, folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error}. Make room and repeat.") from error


def _config(config: Mapping[str, Any]) -> Any:
    """A `CLIPConfig` of open_clip's description; its defaults are written out."""
    from transformers import CLIPConfig

    given, dim = config["vision_cfg"], config["embed_dim"]
    act = "quick_gelu" if config.get("quick_gelu") else "gelu"
    width = given["width"]
    vision = {
        "image_size": given["image_size"],
        "patch_size": given["patch_size"],
        "hidden_size": width,
        "num_attention_heads": width // given.get("head_width", 64),
        "num_hidden_layers": given["layers"],
        "intermediate_size": int(width * given.get("mlp_ratio", 4)),
    }
    shared = {"hidden_act": act, "projection_dim": dim}
    text = config.get("text_cfg", {})
    wide = text.get("width", 512)
    written = {
        "max_position_embeddings": text.get("context_length", 77),
        "vocab_size": text.get("vocab_size", _VOCABULARY),
        "hidden_size": wide,
        "num_attention_heads": text.get("heads", 8),
        "num_hidden_layers": text.get("layers", 12),
        "intermediate_size": int(wide * text.get("mlp_ratio", 4)),
    }
    return CLIPConfig(
        vision_config={**vision, **shared}, text_config={**written, **shared}, projection_dim=dim
    )


def _tokenizer(config: Mapping[str, Any]) -> Any:
    """CLIP's tokenizer in transformers' form, of the words that open_clip carries."""
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    words = SimpleTokenizer()
    renamed = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    return CLIPTokenizer(
        vocab={renamed.get(word, word): place for word, place in words.encoder.items()},
        merges=sorted(words.bpe_ranks, key=words.bpe_ranks.__getitem__),
        model_max_length=config["text_cfg"].get("context_length", 77),
    )
