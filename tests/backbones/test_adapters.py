"""Adapters of peft and of LLaVA's trainers, merged on loading, against what peft merges."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from chatters import loaded
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration
from trap import Trap

from lit_biqa.backbones.layout import Layout
from lit_biqa.backbones.mplug_owl2 import LORA_TARGETS, MplugOwl2ForConditionalGeneration
from lit_biqa.backbones.owl2 import MplugOwl2
from lit_biqa.backbones.qwen_vl import QwenVL
from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.backbones.weights import state_of
from lit_biqa.types import InputError

OWL, QWEN = MplugOwl2ForConditionalGeneration, Qwen2_5_VLForConditionalGeneration
TARGETS: dict[Any, Any] = {OWL: LORA_TARGETS, QWEN: ["q_proj", "down_proj", "qkv"]}


class Adapted:
    """A base, an adapter as peft saves it, and the weights that peft makes of both."""

    def __init__(self, folder: Path, kind: Any, tiny: Any, **settings: Any) -> None:
        self.base, self.adapter = folder / "base", folder / "adapter"
        model = loaded(tiny)
        model.save(self.base, state_of(model))
        torch.manual_seed(0)
        config = LoraConfig(r=3, lora_alpha=7, target_modules=TARGETS[kind], **settings)
        made = get_peft_model(kind.from_pretrained(self.base), config)
        for name, weight in made.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        made.save_pretrained(self.adapter)
        self.merged: dict[str, Tensor] = made.merge_and_unload().state_dict()

    def copy(self, to: Path) -> Path:
        shutil.copytree(self.adapter, to)
        return to


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Adapted:
    return Adapted(tmp_path_factory.mktemp("qwen"), QWEN, TinyQwenVL)


@pytest.fixture(scope="module")
def owl(tmp_path_factory: pytest.TempPathFactory) -> Adapted:
    return Adapted(tmp_path_factory.mktemp("owl"), OWL, TinyMplugOwl2, use_rslora=True)


def check(model: Any, merged: dict[str, Tensor], base: Path) -> None:
    """Compare all weights; some must differ from the base."""
    model.load()
    state = model.model.state_dict()
    assert state.keys() == merged.keys()
    for name, weight in merged.items():
        torch.testing.assert_close(state[name], weight, atol=1e-6, rtol=0, msg=name)
    before = load_file(base / "model.safetensors")
    assert sum(not torch.equal(state[n], w) for n, w in before.items() if n in state) > 2


def test_the_base_that_the_adapter_names_is_taken(qwen: Adapted) -> None:
    check(QwenVL(str(qwen.adapter)), qwen.merged, qwen.base)


def test_an_adapter_beside_its_base(qwen: Adapted, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(qwen.base, both)
    shutil.copytree(qwen.adapter, both, dirs_exist_ok=True)
    check(QwenVL(str(both)), qwen.merged, qwen.base)


def test_an_adapter_with_the_names_of_older_releases(qwen: Adapted, tmp_path: Path) -> None:
    old = qwen.copy(tmp_path / "old")
    file = old / "adapter_model.safetensors"
    tensors = {
        name.replace(".model.language_model.", ".model.").replace(".model.visual.", ".visual."): t
        for name, t in load_file(file).items()
    }
    assert any(name.startswith("base_model.model.model.layers.0.") for name in tensors)
    assert any(name.startswith("base_model.model.visual.") for name in tensors)
    save_file(tensors, file)
    check(QwenVL(str(old)), qwen.merged, qwen.base)


def test_an_adapter_of_llavas_trainers(owl: Adapted, tmp_path: Path) -> None:
    """Q-Align's and DeQA-Score's folders: a path of their machine, pickled, trained whole."""
    folder = owl.copy(tmp_path / "lora")
    edit(folder, base_model_name_or_path="../ModelZoo/mplug-owl2-llama2-7b/")
    updates = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    torch.save(updates, folder / "adapter_model.bin")
    shutil.copy(owl.base / "config.json", folder)
    name = next(name for name in owl.merged if name.startswith("model.visual_abstractor."))
    whole = torch.full_like(owl.merged[name], 0.25)
    torch.save({f"base_model.model.{name}": whole}, folder / "non_lora_trainables.bin")
    with pytest.raises(InputError, match=r"adapter of \.\./ModelZoo.*name its folder.*layout.base"):
        MplugOwl2(str(folder)).prepare()
    model = MplugOwl2(str(folder), layout=Layout(base=str(owl.base)))
    check(model, {**owl.merged, name: whole}, owl.base)


def edit(folder: Path, **changes: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "no LoRA of peft"),
        ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern is .*merge it with peft"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
    ],
)
def test_other_adapters_are_refused(
    qwen: Adapted, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = qwen.copy(tmp_path / "other")
    edit(folder, **changes)
    with pytest.raises(InputError, match=message):
        QwenVL(str(folder)).load()


def test_weights_that_the_base_has_not_are_named(qwen: Adapted, tmp_path: Path) -> None:
    folder = qwen.copy(tmp_path / "stranger")
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "base_model.model.q.lora_magnitude_vector": torch.ones(2)}, file)
    with pytest.raises(InputError, match=r"has q\.lora_magnitude_vector, which its base has not"):
        QwenVL(str(folder)).load()
    name = next(name for name in tensors if name.endswith("q_proj.lora_A.weight"))
    save_file({**tensors, name: torch.ones(3, 9)}, file)
    with pytest.raises(InputError, match=r"q_proj\.weight is \[\d+, 9\], its base's \[\d+, \d+\]"):
        QwenVL(str(folder)).load()
    del tensors[name]
    save_file(tensors, file)
    with pytest.raises(InputError, match="only half of its update"):
        QwenVL(str(folder)).load()


def test_nothing_but_tensors_is_unpickled(qwen: Adapted, tmp_path: Path) -> None:
    folder = qwen.copy(tmp_path / "trap")
    torch.save({"x": Trap()}, folder / "non_lora_trainables.bin")
    with pytest.raises(InputError, match="nothing else is read"):
        QwenVL(str(folder)).load()
    assert not Trap.sprung


def test_what_cannot_be_merged_is_told_before_weights_load(qwen: Adapted) -> None:
    with pytest.raises(InputError, match=r"not into 4 bits: take tuning\.how=lora"):
        QwenVL(str(qwen.adapter), Tuning("qlora")).load()
    with pytest.raises(InputError, match=r"is no adapter.*leave base out"):
        QwenVL(str(qwen.base), layout=Layout(base="some/base")).prepare()
