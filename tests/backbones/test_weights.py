"""Folders of weights: written and read back, and refused by name where they do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from chatters import FAMILIES, loaded, mixed
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration
from trap import Trap

from lit_biqa.backbones.auto_chat import AutoChat
from lit_biqa.backbones.mplug_owl2 import MplugOwl2ForConditionalGeneration
from lit_biqa.backbones.owl2 import MplugOwl2
from lit_biqa.backbones.places import check_there
from lit_biqa.backbones.qwen_vl import QwenVL
from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.backbones.weights import state_of
from lit_biqa.io.digests import DIGESTS
from lit_biqa.runs import recipes
from lit_biqa.types import InputError

both = pytest.mark.parametrize("family", FAMILIES)
READ: dict[Any, Any] = {TinyMplugOwl2: MplugOwl2, TinyQwenVL: QwenVL}
OWN: dict[Any, Any] = {
    TinyMplugOwl2: MplugOwl2ForConditionalGeneration,
    TinyQwenVL: Qwen2_5_VLForConditionalGeneration,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Path]:
    """A folder of each family; do not change them."""
    made = {}
    for family in FAMILIES:
        model = loaded(family)
        made[family] = tmp_path_factory.mktemp(family.__name__) / "weights"
        model.save(made[family], state_of(model))
    return made


@torch.no_grad()
def logits(model: VisionLanguageModel) -> Tensor:
    inputs = model.encode(mixed(model))
    made: Tensor = model.head(model.hidden(inputs).last_hidden_state)[inputs.mask]
    return made


@both
def test_half_precision_is_kept(family: Any, tmp_path: Path) -> None:
    model = loaded(family, Tuning(precision="bfloat16"))
    model.save(tmp_path / "half", state_of(model))
    saved = load_file(tmp_path / "half" / "model.safetensors")
    assert {weight.dtype for weight in saved.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    again = READ[family](str(tmp_path / "half"), Tuning(precision="bfloat16"))
    again.load()
    assert torch.equal(logits(again), logits(model))


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def copy(source: Path, to: Path) -> Path:
    shutil.copytree(source, to)
    return to


@pytest.mark.parametrize("how", ["full", "lora", "qlora"])
def test_words_that_are_the_head_stay_it(
    how: Any, folders: dict[Any, Path], tmp_path: Path
) -> None:
    """As in the 3B, whose configuration says so at its top alone."""
    tied = copy(folders[TinyQwenVL], tmp_path / "tied")
    edit(tied / "config.json", tie_word_embeddings=True)
    weights = load_file(tied / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tied / "model.safetensors", {"format": "pt"})
    (tied / DIGESTS).unlink()
    model = QwenVL(str(tied), Tuning(how, rank=2))
    model.load()
    assert model.head.weight is model.token_embedding.weight
    with torch.no_grad():
        model.token_embedding.weight.mul_(1.5)
    model.save(tmp_path / "again", state_of(model))
    assert "lm_head.weight" not in load_file(tmp_path / "again" / "model.safetensors")
    again = QwenVL(str(tmp_path / "again"))
    again.load()
    assert again.head.weight is again.token_embedding.weight
    assert torch.equal(again.token_embedding.weight, model.token_embedding.weight)
    tolerance = 1e-5 if how == "qlora" else 0
    torch.testing.assert_close(logits(again), logits(model), atol=tolerance, rtol=0)


def test_a_decoder_in_4_bits_that_is_not_trained_is_written_whole(
    folders: dict[Any, Path], tmp_path: Path
) -> None:
    model = QwenVL(str(folders[TinyQwenVL]), Tuning("qlora", ["bridge"], rank=2))
    model.load()
    model.save(tmp_path / "whole", state_of(model))
    again = QwenVL(str(tmp_path / "whole"))
    again.load()
    torch.testing.assert_close(logits(again), logits(model), atol=1e-5, rtol=0)


@both
def test_weights_that_do_not_fit_are_named(
    family: Any, folders: dict[Any, Path], tmp_path: Path
) -> None:
    folder = copy(folders[family], tmp_path / "misfit")
    weights = load_file(folder / "model.safetensors")
    ends = ("language_model.norm.weight", "model.norm.weight")
    norm = next(name for name in weights if name.endswith(ends))
    del weights[norm]
    weights["stranger.weight"] = torch.zeros(2)
    weights["lm_head.weight"] = torch.zeros(7, 64)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / DIGESTS).unlink()
    model = READ[family](str(folder))
    with pytest.raises(InputError) as caught:
        model.load()
    told = str(caught.value)
    assert told.startswith(f"{folder}: the weights do not fit the configuration: ")
    assert f"1 missing ({norm})" in told
    assert "1 unknown (stranger.weight)" in told
    assert "1 of the wrong shape (lm_head.weight is [7, 64], not [" in told


@both
def test_a_weight_that_was_altered_is_told(
    family: Any, folders: dict[Any, Path], tmp_path: Path
) -> None:
    folder = copy(folders[family], tmp_path / "altered")
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors differs from the digest"):
        READ[family](str(folder)).load()
    (folder / DIGESTS).unlink()
    READ[family](str(folder)).load()


@both
@pytest.mark.parametrize("weights", ["cut off", "pickled code"])
def test_files_of_weights_that_cannot_be_read_are_refused(
    family: Any, weights: str, folders: dict[Any, Path], tmp_path: Path
) -> None:
    folder = copy(folders[family], tmp_path / "broken")
    file = folder / "model.safetensors"
    content = file.read_bytes()
    file.unlink()
    if weights == "cut off":
        file.write_bytes(content[: len(content) // 2])
    if weights == "pickled code":
        torch.save({"lm_head.weight": Trap()}, folder / "pytorch_model.bin")
    model = READ[family](str(folder))
    model.prepare()
    with pytest.raises(InputError, match="its weights cannot be read"):
        model.load()
    assert not Trap.sprung


FILES = {
    "configuration": ("config.json",),
    "tokenizer": ("tokenizer.json", "tokenizer.model"),
    "image settings": ("preprocessor_config.json", "processor_config.json"),
}


@both
@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize("fault", ["absent", "broken"])
def test_a_folder_that_lacks_a_file_is_refused_before_weights_are_read(
    family: Any, what: str, fault: str, folders: dict[Any, Path], tmp_path: Path
) -> None:
    folder = copy(folders[family], tmp_path / "bare")
    (folder / "model.safetensors").write_text("never read")
    for name in FILES[what]:
        if fault == "broken" and (folder / name).exists():
            (folder / name).write_text("{")
        if fault == "absent":
            (folder / name).unlink(missing_ok=True)
    with pytest.raises(InputError, match=f"{folder}.*({what}|tokenizer)"):
        READ[family](str(folder)).prepare()


def test_a_folder_of_another_model_is_refused(folders: dict[Any, Path]) -> None:
    with pytest.raises(InputError, match="type 'qwen2_5_vl', not 'mplug_owl2'"):
        MplugOwl2(str(folders[TinyQwenVL])).prepare()
    with pytest.raises(InputError, match="type 'mplug_owl2', not 'qwen2_vl' or"):
        QwenVL(str(folders[TinyMplugOwl2])).prepare()


def test_code_in_a_folder_is_not_run(folders: dict[Any, Path], tmp_path: Path) -> None:
    folder = copy(folders[TinyQwenVL], tmp_path / "coded")
    edit(folder / "config.json", model_type="mine", auto_map={"AutoConfig": "mine.Mine"})
    (folder / "mine.py").write_text("raise SystemExit('was run')")
    with pytest.raises(InputError, match="configuration cannot be read"):
        QwenVL(str(folder)).prepare()


def test_a_template_without_image_is_refused(folders: dict[Any, Path], tmp_path: Path) -> None:
    folder = copy(folders[TinyQwenVL], tmp_path / "plain")
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    with pytest.raises(InputError, match="its chat template has no image"):
        QwenVL(str(folder)).prepare()


@both
def test_a_folder_is_replaced_whole_or_not_at_all(family: Any, tmp_path: Path) -> None:
    model = loaded(family)
    folder = tmp_path / "weights"
    model.save(folder, state_of(model))
    (folder / "stale").touch()
    with pytest.raises(KeyError):
        updates = {"model.x.lora_A.default.weight": torch.zeros(1, 2)}  # and none beside them
        model.save(folder, {"model.x.base_layer.weight": torch.zeros(2, 2)} | updates)
    assert (folder / "stale").exists() and (folder / "model.safetensors").exists()
    model.save(folder, state_of(model))
    assert not (folder / "stale").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        model.save(tmp_path / "file" / "weights", state_of(model))


@pytest.mark.parametrize("kind", [MplugOwl2, QwenVL, AutoChat])
def test_weights_of_a_run_to_come_name_the_recipe_that_makes_them(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "sft" / "first.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("optimizer: {}")
    (tmp_path / "first.yaml").write_text("trains: nothing")
    monkeypatch.setattr(recipes, "folder", lambda: tmp_path)
    with pytest.raises(InputError) as caught:
        kind("runs/first/weights").prepare()
    assert str(caught.value) == (
        "runs/first/weights does not exist: a fit writes it; run lit_biqa fit "
        "--config sft/first --run runs/first first"
    )


@pytest.mark.parametrize(
    "path", ["runs/own", "./own", "../own/weights", "/own/weights", "~/own", "own/run/weights"]
)
def test_an_absent_path_is_not_taken_for_a_name(path: str) -> None:
    with pytest.raises(InputError, match=f"^{path} does not exist: a fit writes it"):
        check_there(path)


def test_a_path_from_home_is_to_be_written_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    with pytest.raises(InputError, match=f"as {tmp_path}/weights"):
        check_there("~/weights")


def test_names_are_left_to_who_resolves_them(tmp_path: Path) -> None:
    for name in ("gpt2", "Qwen/Qwen2.5-VL-7B-Instruct", "MAGAer13/mplug-owl2-llama2-7b"):
        check_there(name)
    check_there(str(tmp_path))
