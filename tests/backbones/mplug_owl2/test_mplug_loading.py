"""Checkpoints: official layout in all its forms, round trips, Auto classes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from owls import mini, mini_config, pictures, random_model
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from trap import Trap

from lit_biqa.backbones.mplug_owl2 import MplugOwl2Config, MplugOwl2ForConditionalGeneration
from lit_biqa.types import InputError


def official_config(config: MplugOwl2Config) -> dict[str, Any]:
    """As transformers 4.31 wrote it: flat, with fields that training added."""
    kept = config.to_dict()
    for name in ("dtype", "transformers_version", "initializer_range"):
        kept.pop(name, None)
    return {
        **kept,
        "architectures": ["MPLUGOwl2LlamaForCausalLM"],
        "torch_dtype": "float32",
        "transformers_version": "4.31.0",
        "rope_scaling": None,
        "pretraining_tp": 1,
        "image_aspect_ratio": "pad",
        "tune_visual_abstractor": True,
        "freeze_vision_model": False,
    }


def official_weights(model: Any) -> dict[str, Tensor]:
    """Names and tables of an official checkpoint: with rotary frequencies in each layer."""
    config = model.config
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    half = config.hidden_size // config.num_attention_heads // 2
    for layer in range(config.num_hidden_layers):
        # Not the true ones: the original does not use what it loads here, nor must we.
        weights[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(half)
    return weights


def write_official(folder: Path, model: Any, weights: dict[str, Tensor], form: str) -> None:
    (folder / "config.json").write_text(json.dumps(official_config(model.config)))
    if form == "safetensors":
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return
    if form == "bin":
        torch.save(weights, folder / "pytorch_model.bin")
        return
    names = sorted(weights)
    shards = {f"pytorch_model-{k + 1}-of-3.bin": names[k::3] for k in range(3)}
    for file, members in shards.items():
        torch.save({name: weights[name] for name in members}, folder / file)
    where = {name: file for file, members in shards.items() for name in members}
    index = {"metadata": {"total_size": 0}, "weight_map": where}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def logits(model: Any) -> Tensor:
    ids = torch.tensor([[1, 7, -200, 9, 30]])
    with torch.no_grad():
        result: Tensor = model(input_ids=ids, images=pictures(1)).logits
    return result


@pytest.mark.parametrize("form", ["safetensors", "bin", "sharded bin"])
def test_official_layout_loads_every_weight(tmp_path: Path, form: str) -> None:
    model = mini()
    write_official(tmp_path, model, official_weights(model), form)
    loaded, info = MplugOwl2ForConditionalGeneration.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values())
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    assert torch.equal(logits(loaded), logits(model))
    assert loaded.config.rope_theta == 500.0
    assert loaded.generation_config.eos_token_id == 2


def test_names_and_shapes_of_the_official_7b(shared: Path) -> None:
    """The default configuration, without memory for its weights."""
    listed = json.loads((shared / "goldens/mplug_owl2/state_dict_7b.json").read_text())["keys"]
    with torch.device("meta"):
        model = MplugOwl2ForConditionalGeneration(MplugOwl2Config())
    found = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    frequencies = [f"model.layers.{k}.self_attn.rotary_emb.inv_freq" for k in range(32)]
    assert len(listed) == 882
    assert found == {name: listed[name] for name in listed if name not in frequencies}
    assert all(name in listed for name in frequencies)
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_197_859_328
    assert not list(model.named_buffers())


def test_a_checkpoint_saved_after_training_by_the_original_loads(tmp_path: Path) -> None:
    """It also holds the abstractor's position tables, here wrong ones: they are computed anew."""
    model = mini()
    weights = official_weights(model)
    for layer in range(3):
        at = f"model.visual_abstractor.encoder.layers.{layer}.crossattention.attention"
        weights[f"{at}.q_pos_embed"] = torch.full((5, 24), 9.0)
        weights[f"{at}.k_pos_embed"] = torch.full((10, 24), 9.0)
    write_official(tmp_path, model, weights, "safetensors")
    loaded = MplugOwl2ForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(logits(loaded), logits(model))


def test_saved_models_come_back_through_the_auto_classes(tmp_path: Path) -> None:
    model = mini()
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, MplugOwl2Config)
    assert json.loads(config.to_json_string()) == json.loads(model.config.to_json_string())
    for auto in (AutoModelForImageTextToText, AutoModelForCausalLM):
        loaded = auto.from_pretrained(tmp_path)
        assert isinstance(loaded, MplugOwl2ForConditionalGeneration)
        assert torch.equal(logits(loaded), logits(model))


def test_saved_configuration_reads_as_an_official_one(tmp_path: Path) -> None:
    mini().config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["rope_theta"] == 500.0 and saved["model_type"] == "mplug_owl2"
    assert saved["visual_config"]["visual_model"]["patch_size"] == 10
    assert saved["visual_config"]["visual_abstractor"]["grid_size"] == 3


def test_bfloat16_is_kept_and_asked_for(tmp_path: Path) -> None:
    random_model(mini_config()).to(torch.bfloat16).save_pretrained(tmp_path)
    kept = MplugOwl2ForConditionalGeneration.from_pretrained(tmp_path)
    assert kept.dtype == torch.bfloat16 and logits(kept).dtype == torch.bfloat16
    asked = MplugOwl2ForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    assert asked.dtype == torch.float32
    assert (logits(kept).float() - logits(asked)).abs().max() < 0.3


@pytest.mark.parametrize("form", ["safetensors", "sharded bin"])
def test_incomplete_or_foreign_weights_are_refused(tmp_path: Path, form: str) -> None:
    model = mini()
    weights = official_weights(model)
    del weights["model.norm.weight"], weights["model.visual_abstractor.vit_eos"]
    weights["model.mm_projector.weight"] = torch.zeros(2)
    weights["lm_head.weight"] = torch.zeros(60, 40)
    write_official(tmp_path, model, weights, form)
    with pytest.raises(InputError) as caught:
        MplugOwl2ForConditionalGeneration.from_pretrained(tmp_path)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "2 missing (model.norm.weight, model.visual_abstractor.vit_eos)" in message
    assert "1 unknown (model.mm_projector.weight)" in message
    assert "lm_head.weight is [60, 40], not [61, 40]" in message


def test_code_in_a_bin_file_is_not_run(tmp_path: Path) -> None:
    model = mini()
    write_official(tmp_path, model, official_weights(model), "safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Trap()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"[Ww]eights"):
        MplugOwl2ForConditionalGeneration.from_pretrained(tmp_path)
    assert not Trap.sprung


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"num_key_value_heads": 1}, "num_key_value_heads is 1 and num_attention_heads is 5"),
        ({"num_attention_heads": 3}, "does not divide"),
        ({"hidden_size": 15}, "odd"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings"),
    ],
)
def test_decoders_that_cannot_be_built_are_refused(changes: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        mini_config(**changes)


@pytest.mark.parametrize(
    ("part", "changes", "complaint"),
    [
        ("visual_abstractor", {"grid_size": 4}, "grid_size is 4, but an image of 30 in patches"),
        ("visual_abstractor", {"grid_size": None}, "grid_size is 32"),
        ("visual_model", {"image_size": 32}, "3.2 per side"),
        ("visual_model", {"hidden_size": 48}, "must be equal"),
        ("visual_model", {"use_cls_token": False}, "use_cls_token"),
        ("visual_model", {"attention_dropout": 0.1}, "attention_dropout"),
        ("visual_abstractor", {"add_v2t_pos_emb": True}, "add_v2t_pos_emb"),
        ("visual_abstractor", {"num_attention_heads": 5}, "does not divide"),
    ],
)
def test_visual_parts_that_do_not_fit_are_refused(part: str, changes: Any, complaint: str) -> None:
    visual = json.loads(json.dumps(mini_config().visual_config))
    visual[part].update(changes)
    with pytest.raises(InputError, match=complaint):
        mini_config(visual_config=visual)


def test_an_empty_configuration_is_the_7b() -> None:
    config = MplugOwl2Config(visual_config=None)
    assert (config.vision.grid, config.abstractor.num_learnable_queries) == (32, 64)
    assert config.positions_per_image == 65
