"""Two processes, with DDP and with FSDP2, do what one does."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import runs
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

WORDS = ("dataset", "split", "condition", "name", "status", "group", "cluster")
FSDP2 = {
    "devices": 2,
    "strategy": {
        "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
        "init_args": {
            "data_parallel_size": 2,
            "tensor_parallel_size": 1,
            "save_distributed_checkpoint": False,
        },
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configurations: the recipe, and FSDP2 to be laid over it."""
    folder = tmp_path_factory.mktemp("processes")
    runs.write_settings(folder / "fit.yaml", runs.tiny_settings(folder / "data"))
    runs.write_settings(folder / "fsdp.yaml", {"trainer": FSDP2})
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    fit(folder, "alone")
    return folder / "alone"


@pytest.fixture(scope="module")
def ddp(folder: Path) -> Path:
    """The very command, which starts its second process itself."""
    command = [sys.executable, "-m", "lit_biqa", "fit", "--config", str(folder / "fit.yaml")]
    command += ["--run", str(folder / "ddp"), "--trainer.devices=2", "--trainer.strategy=ddp"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "ddp"


@pytest.fixture(scope="module")
def fsdp(folder: Path) -> Path:
    fit(folder, "fsdp", ranks=2)
    return folder / "fsdp"


def fit(folder: Path, name: str, *more: object, ranks: int = 1, recipe: str = "fit.yaml") -> None:
    args: list[object] = ["fit", "--config", folder / recipe, "--run", folder / name]
    args += ["--config", folder / "fsdp.yaml"] if ranks > 1 else []
    runs.start([*args, *more], folder / f"{name}.log", ranks).succeed()


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def assert_close(ours: list[dict[str, str]], theirs: list[dict[str, str]]) -> None:
    """Rows of numbers that agree, and of words that are equal."""
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for column, value in one.items():
            if column == "weights":  # a digest, equal where all bits are
                continue
            if column in WORDS:
                assert value == other[column]
            else:
                near = pytest.approx(float(value), abs=1e-4, nan_ok=True)
                assert float(other[column]) == near, (column, one)


def furthest(one: dict[str, Tensor], other: dict[str, Tensor], prefix: str = "") -> float:
    """Largest difference between tensors of the same names, among those with the prefix."""
    assert one.keys() == other.keys()
    names = [name for name in one if name.startswith(prefix)]
    return max((one[name].double() - other[name].double()).abs().max().item() for name in names)


@pytest.mark.newest
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_do_what_one_does(
    alone: Path, strategy: str, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(strategy)
    for tag, tolerance in (("train/loss", 1e-5), ("val/plcc", 1e-4), ("val/srcc", 1e-4)):
        logged, expected = runs.logged(run, tag), runs.logged(alone, tag)
        assert len(expected) == (3 if tag.startswith("val") else 15)
        assert logged == pytest.approx(expected, abs=tolerance), tag
    for file in ("results.csv", "predictions.csv"):
        assert_close(rows(run / "test" / file), rows(alone / "test" / file))
    assert [row["n"] for row in rows(run / "test" / "results.csv")] == ["11"]
    one, two = (runs.weights(path / "checkpoints" / "best.ckpt") for path in (alone, run))
    assert furthest(one, two, "encoder.") < 1e-5
    assert furthest(one, two, "head.") < 1e-3
    shipped = load_file(run / "scorer.safetensors")
    for name, weight in shipped.items():
        assert torch.equal(weight, two[name.replace("tower.", "encoder.images.", 1)]), name
    mine, theirs = (load_file(path / "embeddings.safetensors") for path in (alone, run))
    assert furthest(mine, theirs) < 1e-4


def test_one_process_tests_what_two_have_trained(folder: Path, fsdp: Path) -> None:
    before = {name: rows(fsdp / "test" / f"{name}.csv") for name in ("results", "predictions")}
    args = ["test", "--config", fsdp / "config.yaml", "--run", fsdp]
    args += ["--trainer.strategy=auto", "--trainer.devices=1"]
    runs.start(args, folder / "test.log").succeed()
    for name, lines in before.items():
        assert_close(rows(fsdp / "test" / f"{name}.csv"), lines)


def test_shards_are_resumed(folder: Path, fsdp: Path) -> None:
    run, log = folder / "resumed", folder / "resumed.log"
    args = ["fit", "--config", fsdp / "config.yaml", "--run", run]
    args += ["--checkpoint.every_n_steps=3"]
    runs.killed(args, log, "train_batch_end", 8, ranks=2)
    assert runs.state(run / "checkpoints" / "last.ckpt")["global_step"] == 6
    runs.start([*args, "--ckpt_path=last"], log, ranks=2).succeed()
    resumed, whole = (runs.state(path / "checkpoints" / "last.ckpt") for path in (run, fsdp))
    assert runs.same(resumed["state_dict"], whole["state_dict"])
    assert runs.same(resumed["optimizer_states"], whole["optimizer_states"])


@pytest.mark.newest
@pytest.mark.parametrize("action", ["stop", "skip"])
def test_what_is_not_finite_on_one_rank_ends_or_skips_the_step_on_all(
    folder: Path, action: str
) -> None:
    run = folder / action
    args = ["fit", "--config", folder / "fit.yaml", "--run", run, "--trainer.max_epochs=2"]
    args += ["--trainer.devices=2", "--trainer.strategy=ddp"]
    args += [f"--model.init_args.on_nonfinite={action}", "--trainer.callbacks=runs.Spoil"]
    args += ["--trainer.callbacks.step=7", "--trainer.callbacks.rank=1"]
    started = runs.start(args, folder / f"{action}.log", ranks=2)
    assert started.wait() == (1 if action == "stop" else 0), started.printed
    assert "step 8 is not finite: the gradient of encoder." in started.printed
    assert "Traceback" not in started.printed
    last = runs.state(run / "checkpoints" / "last.ckpt")
    assert last["global_step"] == (5 if action == "stop" else 10)
    assert last["skipped"] == (action == "skip")
    assert all(weight.isfinite().all() for weight in last["state_dict"].values())


@pytest.mark.newest
def test_processes_that_wait_for_each_other_end_with_step_and_rank(folder: Path) -> None:
    args = ["fit", "--config", folder / "fit.yaml", "--run", folder / "stall"]
    args += ["--trainer.devices=2", "--trainer.strategy=ddp", "--watchdog.timeout=30"]
    args += ["--trainer.callbacks=runs.Stall", "--trainer.callbacks.step=7"]
    run = runs.start([*args, "--trainer.callbacks.rank=1"], folder / "stall.log", ranks=2)
    assert run.wait() == 1, run.printed
    assert "of 2 has made no progress for 30 s in step 8 (train)" in run.printed
    assert runs.state(folder / "stall" / "checkpoints" / "last.ckpt")["global_step"] == 5


@pytest.mark.newest
def test_a_frozen_text_tower_is_sharded_too(folder: Path) -> None:
    settings = runs.tiny_settings(folder / "data")
    settings["model"]["init_args"]["encoder"] = {
        "class_path": "lit_biqa.backbones.clip.OpenClip",
        "init_args": {"model": f"local-dir:{small_clip(folder / 'clip')}", "pretrained": None},
    }
    settings["trainer"] |= {"max_steps": 1}
    runs.write_settings(folder / "clip.yaml", settings)
    fit(folder, "clip-1", recipe="clip.yaml")
    fit(folder, "clip-2", recipe="clip.yaml", ranks=2)
    one, two = folder / "clip-1", folder / "clip-2"
    assert runs.logged(two, "train/loss") == pytest.approx(runs.logged(one, "train/loss"), abs=1e-5)
    mine, theirs = (runs.weights(run / "checkpoints" / "last.ckpt") for run in (one, two))
    assert furthest(mine, theirs, "encoder.") < 1e-5
    start = load_file(folder / "clip" / "open_clip_model.safetensors")
    for name, weight in start.items():
        now = theirs[f"encoder.clip.{name}"].reshape(weight.shape)
        assert torch.equal(now, weight) == (not name.startswith("visual.")), name
    assert_close(rows(two / "test" / "results.csv"), rows(one / "test" / "results.csv"))


def small_clip(folder: Path) -> Path:
    """An architecture of open_clip's own with random weights, in a folder as it writes them."""
    import open_clip

    tower = {"layers": 2, "width": 32}
    vision = tower | {"image_size": 32, "patch_size": 16, "head_width": 16}
    text = tower | {"context_length": 16, "vocab_size": 49408, "heads": 2}
    described = {"model_cfg": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}}
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder
