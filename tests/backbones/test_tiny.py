"""The tiny encoder: its seed, its texts, its gradients, its tower rebuilt."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_biqa.backbones.image_towers import build_tower
from lit_biqa.backbones.tiny import TinyClip
from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.types import InputError

TEXTS = ["Sharp and clean.", "", "Heavy noise, banding and blur. " * 40]


def tiny(seed: int = 0, context: int = 24) -> TinyClip:
    encoder = TinyClip(dim=16, width=8, size=32, context=context, seed=seed)
    encoder.load()
    return encoder.eval()


def pixels(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_building_is_free_and_tells_dim_and_frame() -> None:
    encoder = TinyClip(dim=48, size=64, crop=0.75)
    assert not encoder.loaded
    assert not list(encoder.parameters())
    assert (encoder.dim, encoder.frame.size) == (48, 64)
    encoder.load()
    assert encoder.loaded


def test_weights_follow_the_seed_and_leave_the_global_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = tiny(1)
    assert torch.equal(torch.rand(1), expected)
    again, other = tiny(1), tiny(2)
    same = first.state_dict()
    assert all(torch.equal(value, same[name]) for name, value in again.state_dict().items())
    assert not torch.equal(first.image_tower(pixels()), other.image_tower(pixels()))


def test_texts_of_any_length_are_embedded_and_padding_changes_nothing() -> None:
    encoder = tiny()
    together = encoder.embed_texts(TEXTS)
    assert together.shape == (3, 16)
    alone = torch.cat([encoder.embed_texts([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_words_beyond_the_context_are_cut() -> None:
    encoder = tiny(context=6)  # start, four words, end
    short, long, other = encoder.embed_texts(
        ["one two three four", "one two three four five six", "one two three five"]
    )
    torch.testing.assert_close(short, long)
    assert not torch.allclose(short, other)


def test_everything_is_trained_by_what_alignment_trains_on() -> None:
    encoder = tiny().train()
    images, texts, scale = encoder(pixels(3), TEXTS)
    assert scale.shape == (1,)
    assert scale.item() == pytest.approx(1 / 0.07)
    (scale * images * texts).square().mean().backward()
    without = [name for name, value in encoder.named_parameters() if value.grad is None]
    assert without == []


def test_the_scale_stops_at_100_as_in_clip() -> None:
    encoder = tiny()
    torch.nn.init.constant_(encoder.log_scale, math.log(5000.0))
    assert encoder.scale.item() == pytest.approx(100.0)


def test_flat_images_have_the_embedding_of_double_precision_in_any_layout() -> None:
    encoder = TinyClip()
    encoder.load()
    for level in (-1.5, -0.86, 0.3, 2.0):
        flat = torch.full((2, 3, 64, 64), level)
        with torch.no_grad():
            expected = copy.deepcopy(encoder).double().embed_images(flat.double()).float()
            for layout in (torch.contiguous_format, torch.channels_last):
                found = encoder.embed_images(flat.contiguous(memory_format=layout))
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_flat_image_has_finite_gradients() -> None:
    encoder = tiny()
    encoder.embed_images(torch.zeros(1, 3, 32, 32)).sum().backward()  # type: ignore[no-untyped-call]
    for value in encoder.image_tower.parameters():
        assert value.grad is not None
        assert bool(value.grad.isfinite().all())


def test_the_tower_is_rebuilt_from_its_settings() -> None:
    encoder = tiny()
    settings = json.loads(json.dumps(encoder.settings()))
    tower = build_tower(settings)
    tower.load_state_dict(encoder.image_tower.state_dict())
    assert torch.equal(tower.eval()(pixels()), encoder.embed_images(pixels()))
    with pytest.raises(InputError, match=r"unknown kind of image tower 'torch\.load'"):
        build_tower({**settings, "kind": "torch.load"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"dim": -1},
        {"dim": 10**6},
        {"width": 0},
        {"width": 12},
        {"width": 10**6},
        {"size": 0},
        {"size": 10**6},
        {"crop": 0.0},
        {"crop": -0.5},
        {"crop": 1.5},
        {"context": 0},
        {"temperature": 0.0},
    ],
)
def test_what_no_tower_can_have_is_refused_before_memory_is_taken(wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(InputError, match=f"^encoder.{name} is {value}: give "):
        TinyClip(**wrong)


@pytest.mark.parametrize("kind", [TinyMplugOwl2, TinyQwenVL])
@pytest.mark.parametrize(
    "wrong", [{"width": -32}, {"width": 72}, {"width": 10**6}, {"layers": 0}, {"layers": 10**6}]
)
def test_nor_can_a_tiny_chat_model_have_it(kind: type, wrong: dict[str, int]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(InputError, match=f"^backbone.{name} is {value}: give "):
        kind(**wrong)
    with pytest.raises(InputError, match="vocabulary is 10000000: give 1 to 1,000,000"):
        kind(vocabulary=10**7)
    if kind is TinyMplugOwl2:
        with pytest.raises(InputError, match=r"^backbone.image_size is 57: give a multiple of 14"):
            kind(image_size=57)
