"""The command: tables of recipes, its exit status, and what it says where memory is too small."""

from __future__ import annotations

import pytest

from lit_biqa.cli.plan import main

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
