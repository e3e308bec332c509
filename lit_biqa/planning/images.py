"""Images in a model: positions that one takes at most, and the tower that reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lit_biqa.backbones.auto_chat import AutoChat
from lit_biqa.backbones.owl2 import MplugOwl2
from lit_biqa.backbones.qwen_vl import QwenVL
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.planning.stack import Stack

# Tiles that the processors of the published checkpoints cut an image into, at most.
_TILES = {"internvl": 12, "llava_onevision": 36, "llava": 0}
# LLaVA-OneVision scales the features of its tiles down to those of 9 (anyres_max_9).
_MOST_TILES_KEPT = 9


@dataclass(frozen=True)
class Image:
    """An image as a model takes it.

    Attributes:
        positions: in the decoder, at most.
        patches: positions in the tower, at most.
        tower: the image tower.
    """

    positions: int
    patches: int
    tower: Stack


def image_of(backbone: VisionLanguageModel, config: Any) -> Image:
    """Largest image that a backbone's settings allow."""
    if isinstance(backbone, MplugOwl2):
        v = config.vision
        return Image(config.positions_per_image, v.grid**2 + 1, _tower(v))
    if isinstance(backbone, AutoChat):
        return _tiled(config, backbone.max_tiles)
    assert isinstance(backbone, QwenVL)
    v = config.vision_config
    patches = backbone.max_pixels // v.patch_size**2
    return Image(patches // v.spatial_merge_size**2, patches, _qwen_tower(config))


def _tower(v: Any) -> Stack:
    width = v.hidden_size
    return Stack(v.num_hidden_layers, width, width, width, v.intermediate_size)


def _qwen_tower(config: Any) -> Stack:
    v = config.vision_config
    if config.model_type == "qwen2_vl":
        width, inner = v.embed_dim, int(v.embed_dim * v.mlp_ratio)
    else:
        width, inner = v.hidden_size, v.intermediate_size
    return Stack(v.depth, width, width, width, inner)


def _tiled(config: Any, max_tiles: int | None) -> Image:
    """Tiles of an image beside one of the whole image.

    LLaVA-OneVision ends each row of the joined tiles with one more position; most rows are those of
    a column of tiles.
    """
    v, kind = config.vision_config, config.model_type
    tiles = max_tiles or _TILES[kind]
    grid = _side(v.image_size) // _side(v.patch_size)
    patches = (1 + tiles) * grid**2
    if kind == "llava":
        positions = grid**2
    elif kind == "internvl":
        positions = (1 + tiles) * config.image_seq_length
    else:
        kept = min(tiles, _MOST_TILES_KEPT)
        positions = grid**2 + kept * grid * (grid + 1)
    return Image(positions, patches, _tower(v))


def _side(size: Any) -> int:
    return int(size if isinstance(size, int) else max(size))
