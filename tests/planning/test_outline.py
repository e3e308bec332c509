"""Backbones without weights: the same modules as loaded ones, and published numbers of weights."""

from __future__ import annotations

import pytest
from parameters import described

from lit_biqa.backbones.auto_chat import AutoChat
from lit_biqa.backbones.owl2 import MplugOwl2
from lit_biqa.backbones.qwen_vl import QwenVL
from lit_biqa.backbones.timm_chat import TimmChat
from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.planning.outline import outline
from lit_biqa.planning.sizes import sizes_of
from lit_biqa.types import InputError

TUNINGS = {"full": Tuning(), "lora": Tuning("lora", ["language"], "bfloat16", rank=3)}


@pytest.mark.parametrize("tuning", TUNINGS.values(), ids=TUNINGS)
@pytest.mark.parametrize("kind", [TinyQwenVL, TinyMplugOwl2])
def test_modules_are_those_of_a_loaded_model(
    kind: type[TinyQwenVL | TinyMplugOwl2], tuning: Tuning
) -> None:
    loaded, outlined = kind(tuning=tuning), kind(tuning=tuning)
    loaded.load()
    outline(outlined)
    assert described(outlined) == described(loaded)
    assert {p.device.type for p in outlined.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        # bytes in bfloat16, `total_size` of model.safetensors.index.json on the hub
        ("Qwen/Qwen2-VL-7B-Instruct", 16_582_751_232),
        ("Qwen/Qwen2.5-VL-3B-Instruct", 7_509_245_952),
        ("Qwen/Qwen2.5-VL-7B-Instruct", 16_584_333_312),
        ("Qwen/Qwen3-VL-8B-Instruct", 17_534_247_392),
        ("OpenGVLab/InternVL3-8B-hf", 15_888_747_520),
        ("llava-hf/llava-onevision-qwen2-7b-ov-hf", 16_060_697_664),
    ],
)
def test_table_adds_up_to_published_files(name: str, size: int) -> None:
    kind = QwenVL if name.startswith("Qwen/") else AutoChat
    assert sizes_of(kind(name, Tuning(precision="bfloat16"))).held == size


def test_positions_are_those_that_the_recipes_name() -> None:
    assert sizes_of(AutoChat("OpenGVLab/InternVL3-8B-hf", max_tiles=4)).image == 1280
    llava = AutoChat("llava-hf/llava-onevision-qwen2-7b-ov-hf", max_tiles=4)
    assert sizes_of(llava).image == 3753


def test_owl2_has_the_size_that_its_paper_names() -> None:
    sizes = sizes_of(MplugOwl2())
    assert round(sizes.held / 4 / 1e9, 1) == 8.2  # arXiv 2311.04257
    assert sizes.image == 65


def test_unknown_sizes_name_the_fix() -> None:
    with pytest.raises(InputError, match="pretrained=Qwen"):
        outline(QwenVL("runs/none/weights"))
    with pytest.raises(InputError, match="not known here"):
        outline(QwenVL("someone/model"))
    with pytest.raises(InputError, match="pretrained=OpenGVLab"):
        outline(AutoChat("Qwen/Qwen2.5-VL-7B-Instruct"))  # of another class
    with pytest.raises(InputError, match="TimmChat is not planned"):
        outline(TimmChat())
