"""Weights as other programs name and store them: read equal, or refused with what to do."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from chatters import loaded
from llavas import write_llava
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Qwen2_5_VLForConditionalGeneration

from lit_biqa.backbones.auto_chat import AutoChat
from lit_biqa.backbones.layout import ADAPTER
from lit_biqa.backbones.qwen_vl import QwenVL
from lit_biqa.backbones.tiny_chat import TinyQwenVL
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.backbones.weights import state_of
from lit_biqa.io.digests import DIGESTS
from lit_biqa.types import InputError


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen") / "weights"
    model = loaded(TinyQwenVL)
    model.save(folder, state_of(model))
    (folder / DIGESTS).unlink()
    return folder


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llava(tmp_path_factory.mktemp("llava") / "weights")


def renamed(folder: Path, to: Path, rename: Callable[[str], str]) -> Path:
    """A copy whose weights have other names."""
    shutil.copytree(folder, to)
    weights = {rename(name): weight for name, weight in load_file(to / "model.safetensors").items()}
    save_file(weights, to / "model.safetensors", {"format": "pt"})
    return to


def names_of_a_server(name: str) -> str:
    """As vLLM and SGLang name the weights of Qwen2.5-VL; their tower stands at the top."""
    for ours, theirs in (
        ("lm_head.", "language_model.lm_head."),
        ("model.language_model.", "language_model.model."),
        ("model.visual.", "visual."),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise AssertionError(name)


def head_below(name: str) -> str:
    below = name.replace("model.language_model.", "model.language_model.model.")
    return below.replace("lm_head.", "model.language_model.lm_head.")


def old_names(name: str) -> str:
    """Those that Qwen2.5-VL was published with."""
    return name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")


def check(model: VisionLanguageModel, folder: Path) -> None:
    model.load()
    state, saved = model.model.state_dict(), load_file(folder / "model.safetensors")
    assert saved
    assert all(torch.equal(state[name], weight) for name, weight in saved.items())


@pytest.mark.parametrize("rename", [names_of_a_server, head_below, old_names])
def test_names_of_servers_are_read(
    qwen: Path, tmp_path: Path, rename: Callable[[str], str]
) -> None:
    check(QwenVL(str(renamed(qwen, tmp_path / "other", rename))), qwen)


def wrapper(kind: str) -> str:
    """What torch itself puts before the names of a wrapped module."""
    inside = nn.Linear(1, 1)
    made = torch.compile(inside) if kind == "compile" else nn.DataParallel(inside)
    assert isinstance(made, nn.Module)
    return next(iter(made.state_dict())).removesuffix("weight")


@pytest.mark.parametrize("kinds", [["compile"], ["data parallel"], ["data parallel", "compile"]])
def test_names_of_wrapped_models_are_read(
    qwen: Path, llava: Path, tmp_path: Path, kinds: list[str]
) -> None:
    before = "".join(map(wrapper, kinds))
    check(QwenVL(str(renamed(qwen, tmp_path / "qwen", lambda name: before + name))), qwen)
    old = renamed(qwen, tmp_path / "old", lambda name: before + old_names(name))
    check(QwenVL(str(old)), qwen)
    other = AutoChat(str(renamed(llava, tmp_path / "llava", lambda name: before + name)))
    plain = AutoChat(str(llava))
    other.load()
    plain.load()
    state = other.model.state_dict()
    assert all(torch.equal(state[n], w) for n, w in plain.model.state_dict().items())


def test_an_adapter_inside_its_base_is_told(qwen: Path, tmp_path: Path) -> None:
    """The state dict of a model of peft, saved without merging."""
    base = Qwen2_5_VLForConditionalGeneration.from_pretrained(qwen)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"]))
    shutil.copytree(qwen, tmp_path / "peft")
    state = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    save_file(state, tmp_path / "peft" / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"an adapter of peft inside its base: .*merge_and_unload"):
        QwenVL(str(tmp_path / "peft")).load()


@pytest.mark.parametrize(
    ("pattern", "name", "message"),
    [
        (
            "layers.0.",
            "_fsdp_wrapped_module.layers.0.",
            "wrapped by FSDP: save its full",
        ),
        ("q_proj.weight", "q_proj.qweight", "quantised by GPTQ, AWQ or .*tuning.how=qlora"),
        ("norm.weight", "norm.gamma", r"unknown.*Take a complete checkpoint with its own config"),
    ],
)
def test_other_names_are_told(
    qwen: Path, tmp_path: Path, pattern: str, name: str, message: str
) -> None:
    folder = renamed(qwen, tmp_path / "other", lambda known: known.replace(pattern, name))
    with pytest.raises(InputError, match=message):
        QwenVL(str(folder)).load()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("zero_to_fp32.py", "the shards of DeepSpeed, .*python zero_to_fp32.py . OUT"),
        ("model_world_size_8_rank_0.pt", "the shards of verl, .*verl.model_merger"),
        ("pytorch_model_fsdp_0/__0_0.distcp", "the shards of torch.distributed.checkpoint"),
        ("q4.gguf", "weights for llama.cpp"),
        ("weights/config.json", "a run, .*name the folder weights in it"),
        ("notes.txt", "no weights of transformers .*layout.subfolder"),
    ],
)
def test_folders_without_weights_say_which_layout_they_have(
    qwen: Path, tmp_path: Path, file: str, message: str
) -> None:
    """Told by `prepare`, before weights load."""
    folder = tmp_path / "other"
    shutil.copytree(qwen, folder)
    (folder / "model.safetensors").unlink()
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text("")
    with pytest.raises(InputError, match=f"{re.escape(str(folder))} holds {message}"):
        QwenVL(str(folder)).prepare()


@pytest.mark.parametrize("base", [None, ""])
def test_an_adapter_that_names_no_base(tmp_path: Path, base: str | None) -> None:
    settings = {"peft_type": "LORA", "base_model_name_or_path": base}
    (tmp_path / ADAPTER).write_text(json.dumps(settings))
    for kind in (QwenVL, AutoChat):
        with pytest.raises(InputError, match=r"does not say of which weights.*layout\.base"):
            kind(str(tmp_path)).prepare()


def test_settings_of_an_adapter_that_was_merged(qwen: Path, tmp_path: Path) -> None:
    shutil.copytree(qwen, tmp_path / "merged")
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(qwen)}
    (tmp_path / "merged" / ADAPTER).write_text(json.dumps(settings))
    with pytest.raises(InputError, match=rf"or remove {ADAPTER} if the adapter is merged already"):
        QwenVL(str(tmp_path / "merged")).load()
