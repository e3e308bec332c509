"""The command: tables of recipes, its exit status, and what it says where memory is too small."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lit_biqa.backbones.tiny_chat import TinyQwenVL
from lit_biqa.cli.memory import warn_of_memory
from lit_biqa.cli.plan import PlannedFit, main
from lit_biqa.planning.architectures import ARCHITECTURES

SHARDED = ["--config", "trainer/fsdp2_8gpu", "--gpus", "8"]


def test_a_recipe_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "grpo/score", *SHARDED, "--gpu-memory", "80"]) == 0
    shown = capsys.readouterr().out
    assert "8.29 billion weights, shards of one copy on 8 GPUs; 2 images a GPU" in shown
    lines = {line.split("|")[1].strip(): line for line in shown.splitlines() if "|" in line}
    # 8,292,166,656 float32 weights over 8 GPUs
    assert lines["weights"].split("|")[2].strip() == f"{8_292_166_656 * 4 / 8 / 2**30:.1f}"


def test_a_recipe_that_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "sft/qalign", *SHARDED, "--gpu-memory", "8"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("does not fit")
    assert "GPUs" in line


def test_lora_on_one_gpu_keeps_a_copy(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = ["--config", "grpo/score", "--config", "backbone/lora", "--config", "trainer/gpu"]
    assert main([*recipe, "--data.loader.batch_size=4"]) == 0
    assert "a copy each on 1 GPU; 4 images" in capsys.readouterr().out


def test_a_configuration_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "Qwen/Qwen2.5-VL-7B-Instruct"
    (tmp_path / "config.json").write_text(json.dumps(ARCHITECTURES[name]))
    recipe = ["--config", "grpo/score", "--config", "backbone/lora", *SHARDED]
    pretrained = "--model.init_args.backbone.init_args.pretrained="
    assert main([*recipe, f"{pretrained}{tmp_path}"]) == 0
    from_folder = capsys.readouterr().out
    assert main([*recipe, f"{pretrained}{name}"]) == 0
    assert from_folder == capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["qwen2_vl_7b", "qwen3_vl_8b", "internvl3_8b", "llava_onevision_7b"]
)
def test_recipes_of_other_backbones(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "grpo/score", "--config", f"backbone/{name}", *SHARDED]) == 0
    assert "billion weights, shards of one copy on 8 GPUs" in capsys.readouterr().out


def test_settings_are_those_of_a_fit(tmp_path: Path) -> None:
    """Merged with a base, in any form that the parser takes, and of any group."""
    file = tmp_path / "mine.yaml"
    file.write_text("base: grpo/score\ntrainer: {precision: bf16-mixed}\n")
    asked = ["--trainer.strategy", "ddp", "--trainer.max_steps=7", "--checkpoint.patience", "3"]
    fit = PlannedFit(["--config", str(file), "--trainer={devices: 2}", *asked, "--run=unused"])
    trainer = fit.config_init["fit"].trainer
    found = trainer.precision, trainer.strategy, trainer.max_steps, trainer.devices
    assert found == ("bf16-mixed", "ddp", 7, 2)
    assert type(fit.model).__name__ == "GRPO"


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = (record for record in caplog.records if record.levelno >= logging.WARNING)
    return [record.getMessage() for record in found]


def test_a_fit_that_needs_more_than_the_device_has_warns_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tiny = "--model.init_args.backbone=TinyQwenVL"
    fit = PlannedFit(["--config", "grpo/score", tiny, "--data.loader.batch_size=2"])
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer: Any = SimpleNamespace(
        strategy=strategy, precision="32-true", num_devices=1, num_nodes=1
    )
    method: Any = fit.model
    with caplog.at_level(logging.WARNING):
        warn_of_memory(method, fit.datamodule, trainer, None)  # of a CPU nothing is known
        warn_of_memory(method, fit.datamodule, trainer, 80)
        assert not _warnings(caplog)
        warn_of_memory(method, fit.datamodule, trainer, 0.001)
    (warning,) = _warnings(caplog)
    assert "`lit_biqa plan`" in warning
    assert "\n" not in warning
    backbone = method.backbone
    assert isinstance(backbone, TinyQwenVL)
    assert not list(backbone.parameters())  # it is loaded after the warning


def test_gpus_that_differ_are_named_and_the_smallest_counts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpus = [SimpleNamespace(name="A", total_memory=80 * 2**30)] * 2
    gpus += [SimpleNamespace(name="B", total_memory=2**20)]
    monkeypatch.setattr(torch.cuda, "get_device_properties", gpus.__getitem__)
    tiny = ["--model.init_args.backbone=TinyQwenVL", "--data.loader.batch_size=6"]
    fit = PlannedFit(["--config", "grpo/score", *tiny])
    method: Any = fit.model
    strategy = SimpleNamespace(root_device=torch.device("cuda:0"))

    def warned(indices: list[int]) -> list[str]:
        caplog.clear()
        trainer: Any = SimpleNamespace(
            strategy=strategy,
            precision="32-true",
            num_devices=len(indices),
            num_nodes=1,
            device_ids=indices,
        )
        with caplog.at_level(logging.WARNING):
            warn_of_memory(method, fit.datamodule, trainer, None)
        return _warnings(caplog)

    assert not warned([0, 1])
    differ, over = warned([0, 1, 2])
    assert "0 A 80.0 GiB, 1 A 80.0 GiB, 2 B 0.0 GiB" in differ and "--trainer.devices" in differ
    assert "which has 0.0" in over


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--config", "grpo/self_consistency", *SHARDED], "pretrained=Qwen"),
        (["--config", "grpo/score", "--gpus", "7"], "take a multiple"),
        (["--config", "grpo/score", "--gpus", "0"], "--gpus"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert advice in line
