"""Published layouts: a subfolder, a template of its own, a tokenizer elsewhere, a moved head."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from chatters import loaded
from safetensors.torch import load_file, save_file

from lit_biqa.backbones.layout import Layout
from lit_biqa.backbones.owl2 import MplugOwl2
from lit_biqa.backbones.qwen_vl import QwenVL
from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.weights import state_of
from lit_biqa.io.digests import DIGESTS
from lit_biqa.types import InputError


def saved(tiny: Any, folder: Path) -> Path:
    model = loaded(tiny)
    model.save(folder, state_of(model))
    return folder


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(TinyQwenVL, tmp_path_factory.mktemp("qwen") / "weights")


def same(model: Any, folder: Path) -> bool:
    model.load()
    state = model.model.state_dict()
    return all(torch.equal(state[n], w) for n, w in load_file(folder / "model.safetensors").items())


def test_a_subfolder_of_a_local_folder(qwen: Path, tmp_path: Path) -> None:
    shutil.copytree(qwen, tmp_path / "score_degradation")
    assert same(QwenVL(str(tmp_path), layout=Layout(subfolder="score_degradation")), qwen)
    with pytest.raises(InputError, match=r"other does not exist"):
        QwenVL(str(tmp_path), layout=Layout(subfolder="other")).prepare()


def test_a_subfolder_of_a_hub_name(
    qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Q-Insight's, in a cache of the hub, without a network."""
    repository = tmp_path / "models--ByteDance--Q-Insight"
    commit = "0" * 40
    shutil.copytree(qwen, repository / "snapshots" / commit / "score_degradation")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    layout = Layout(subfolder="score_degradation")
    assert same(QwenVL("ByteDance/Q-Insight", layout=layout), qwen)
    with pytest.raises(InputError, match=r"ByteDance/Q-Insight/other: its configuration"):
        QwenVL("ByteDance/Q-Insight", layout=Layout(subfolder="other")).prepare()


def test_a_template_that_lies_in_a_file_of_its_own(qwen: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(qwen, folder)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    model = QwenVL(str(folder))
    model.prepare()
    assert model.tokenizer.chat_template == template
    (folder / "chat_template.json").unlink()
    with pytest.raises(InputError, match="its chat template has no image"):
        QwenVL(str(folder)).prepare()


def test_tokenizer_and_image_settings_in_a_folder_of_their_own(tmp_path: Path) -> None:
    """As DeQA-Score's code keeps them."""
    folder = saved(TinyMplugOwl2, tmp_path / "weights")
    (tmp_path / "preprocessor").mkdir()
    for file in folder.iterdir():
        if file.suffix == ".json" and file.name != "config.json" and file.name != DIGESTS:
            file.rename(tmp_path / "preprocessor" / file.name)
    for file in folder.glob("*.jinja"):
        file.rename(tmp_path / "preprocessor" / file.name)
    with pytest.raises(InputError, match="image settings"):
        MplugOwl2(str(folder)).prepare()
    layout = Layout(processor=str(tmp_path / "preprocessor"))
    model = MplugOwl2(str(folder), layout=layout)
    assert same(model, folder)
    own = loaded(TinyMplugOwl2)
    assert model.tokenize("sharp and good") == own.tokenize("sharp and good")


def test_a_head_below_the_decoder_is_found(qwen: Path, tmp_path: Path) -> None:
    folder = tmp_path / "served"
    shutil.copytree(qwen, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.language_model.lm_head.weight"] = weights.pop("lm_head.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / DIGESTS).unlink()
    assert same(QwenVL(str(folder)), qwen)
