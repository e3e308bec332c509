"""Backbones of each kind, planned without weights, against loaded models and their processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chatters import BACKBONES, loaded, picture, reader
from parameters import described

from lit_biqa.backbones.tuning import Tuning
from lit_biqa.backbones.weights import state_of
from lit_biqa.planning.images import image_of
from lit_biqa.planning.outline import outline
from lit_biqa.planning.sizes import sizes_of

PLANNED = [name for name in BACKBONES if name != "TimmChat"]
LORA = Tuning("lora", ["language"], "bfloat16", rank=3)


@pytest.mark.parametrize("name", PLANNED)
def test_modules_are_those_of_a_loaded_model(name: str, tmp_path: Path) -> None:
    small = loaded(BACKBONES[name])
    small.save(tmp_path, state_of(small))
    for tuning in (Tuning(), LORA):
        planned, read = (reader(BACKBONES[name], str(tmp_path), tuning) for _ in range(2))
        outline(planned)
        read.load()
        assert described(planned) == described(read)


@pytest.mark.parametrize("name", PLANNED[1:])  # mPLUG-Owl2's images are all of one size
def test_no_image_takes_more_positions_than_planned(name: str, tmp_path: Path) -> None:
    small = loaded(BACKBONES[name])
    small.save(tmp_path, state_of(small))
    model: Any = reader(BACKBONES[name], str(tmp_path))
    model.max_pixels = 100_352
    if name in ("LLaVA-OneVision", "InternVL3"):
        model.max_tiles = 4
    planned = sizes_of(model).image
    sides = ((400, 400), (300, 1200), (1200, 300), (200, 1400), (640, 480))
    taken = [model.image_width(model.image_transform(picture(*side))) for side in sides]
    assert max(taken) <= planned
    assert max(taken) > 0.8 * planned


def test_queries_and_keys_are_as_wide_as_the_projections(tmp_path: Path) -> None:
    """Heads of Qwen3-VL are wider than the decoder over their number."""
    small = loaded(BACKBONES["Qwen3-VL"])
    attention = small.decoder.layers[0].self_attn
    small.save(tmp_path, state_of(small))
    stack = sizes_of(reader(BACKBONES["Qwen3-VL"], str(tmp_path))).decoder
    assert stack.queries == attention.q_proj.out_features != stack.width
    assert stack.keys == attention.k_proj.out_features
    layer = small.decoder.layers[0]
    matrices = [w for w in layer.parameters() if w.ndim == 2]
    assert stack.linear == sum(w.numel() for w in matrices)


def test_tower_is_as_wide_and_deep_as_loaded() -> None:
    for name in ("Qwen2-VL", "Qwen3-VL"):
        small = loaded(BACKBONES[name])
        tower = image_of(small, small.model.config).tower
        blocks = small.model.model.visual.blocks
        hidden = [m.out_features for m in blocks[0].mlp.children() if hasattr(m, "out_features")]
        assert (tower.depth, tower.inner) == (len(blocks), max(hidden))
