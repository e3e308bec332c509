"""Checkpoints written as shards, which any number of processes resumes, and read safely."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from safetensors.torch import load_file

from lit_biqa.io.archives import check_archive
from lit_biqa.runs import shards
from lit_biqa.runs.checkpoints import WholeCheckpointIO, read_state, refuse_sharded
from lit_biqa.runs.sharded_strategy import ShardedStrategy
from lit_biqa.types import InputError


def strategy(ranks: int, sharded: bool) -> dict[str, Any]:
    """Settings of the Trainer."""
    sizes = {"data_parallel_size": ranks, "tensor_parallel_size": 1}
    return {
        "devices": ranks,
        "strategy": {
            "class_path": "lit_biqa.runs.sharded_strategy.ShardedStrategy",
            "init_args": {**sizes, "save_distributed_checkpoint": sharded},
        },
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configurations of a fit, and of its strategies."""
    folder = tmp_path_factory.mktemp("shards")
    runs.write_settings(folder / "fit.yaml", runs.tiny_settings(folder / "data"))
    for ranks, sharded in ((2, True), (2, False), (1, True)):
        name = f"{ranks}-{'shards' if sharded else 'whole'}.yaml"
        runs.write_settings(folder / name, {"trainer": strategy(ranks, sharded)})
    return folder


def arguments(folder: Path, run: str, written: str) -> list[object]:
    configs = ["--config", folder / "fit.yaml", "--config", folder / f"{written}.yaml"]
    return ["fit", *configs, "--run", folder / run, "--checkpoint.every_n_steps=3"]


@pytest.fixture(scope="module")
def broken(folder: Path) -> Path:
    """Run of two processes that was killed after step 8; its checkpoint is of step 6."""
    args = arguments(folder, "broken", "2-shards")
    runs.killed(args, folder / "broken.log", "train_batch_end", 8, ranks=2)
    return folder / "broken"


@pytest.fixture(scope="module")
def unbroken(folder: Path) -> Path:
    """The same fit at once, whose checkpoints are whole."""
    runs.start(arguments(folder, "unbroken", "2-whole"), folder / "unbroken.log", 2).succeed()
    return folder / "unbroken"


def resumed(folder: Path, broken: Path, name: str, written: str, ranks: int) -> Path:
    shutil.copytree(broken, folder / name)
    args = [*arguments(folder, name, written), "--ckpt_path=last"]
    runs.start(args, folder / f"{name}.log", ranks).succeed()
    return folder / name


def content(path: Path) -> dict[str, Any]:
    """Whole content of a checkpoint, however it is written."""
    return WholeCheckpointIO().load_checkpoint(path)


def test_each_rank_writes_its_share(broken: Path) -> None:
    last = broken / "checkpoints" / "last.ckpt"
    (shards_of,) = broken.glob("checkpoints/last.ckpt-*")
    files = [load_file(file) for file in sorted(shards_of.iterdir())]
    state = read_state(last)
    sizes = [sum(tensor.nbytes for tensor in file.values()) for file in files]
    assert len(files) == 2
    assert max(sizes) < 0.6 * sum(sizes)
    assert sum(sizes) > 2 * sum(tensor.nbytes for tensor in state.values())  # with moments
    check_archive(last)
    assert last.stat().st_size < 0.1 * sum(sizes)  # weights and moments are not in it


def test_two_processes_resume_bit_for_bit(folder: Path, broken: Path, unbroken: Path) -> None:
    run = resumed(folder, broken, "two", "2-shards", ranks=2)
    found, expected = (content(path / "checkpoints" / "last.ckpt") for path in (run, unbroken))
    assert found["global_step"] == expected["global_step"]
    assert runs.same(found["state_dict"], expected["state_dict"])
    groups = [c["optimizer_states"][0]["param_groups"][0] for c in (found, expected)]
    assert groups[0]["lr"] == groups[1]["lr"]
    best = [read_state(path / "checkpoints" / "best.ckpt") for path in (run, unbroken)]
    assert runs.same(*best)
    exported = [load_file(path / "scorer.safetensors") for path in (run, unbroken)]
    assert runs.same(*exported)
    assert len(list(run.glob("checkpoints/last.ckpt-*"))) == 1  # those before it are removed
    assert not list(run.glob("checkpoints/.*"))


@pytest.mark.parametrize("written", ["1-shards", "none"])
def test_one_process_resumes_what_two_have_written(
    written: str, folder: Path, broken: Path, unbroken: Path
) -> None:
    if written == "none":  # without sharding at all
        runs.write_settings(folder / "none.yaml", {"trainer": {"devices": 1}})
    run = resumed(folder, broken, f"one-{written}", written, ranks=1)
    found, expected = (read_state(path / "checkpoints" / "last.ckpt") for path in (run, unbroken))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-3, rtol=1e-3)


def test_what_is_damaged_or_left_behind_is_refused(broken: Path, tmp_path: Path) -> None:
    last = broken / "checkpoints" / "last.ckpt"
    shutil.copy(last, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="copy this folder too"):
        read_state(tmp_path / "last.ckpt")
    (kept,) = broken.glob("checkpoints/last.ckpt-*")
    file = sorted(shutil.copytree(kept, tmp_path / kept.name).iterdir())[1]
    assert runs.same(read_state(tmp_path / "last.ckpt"), read_state(last))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="differs from the digest"):
        read_state(tmp_path / "last.ckpt")


def test_its_folders_are_allowed() -> None:
    refuse_sharded(ShardedStrategy(save_distributed_checkpoint=True))


def test_names_come_back_as_they_were() -> None:
    tensors = {"a.weight": torch.ones(2), "b": torch.zeros(1)}
    state = {
        "state": {"a.weight": {"step": torch.tensor(3.0), "factored": True}, "b": {}},
        "param_groups": [{"lr": 0.1, "params": ["a.weight", "b"]}],
    }
    flat, plain = shards.split({"state_dict": tensors, "optimizer_states": [state], "epoch": 2})
    assert flat.keys() == {"state_dict/a.weight", "state_dict/b", "optimizer/0/a.weight/step"}
    assert json.loads(json.dumps(plain["optimizer_states"][0]["state"]["a.weight"])) == {
        "factored": True
    }
    assert shards.join_optimizer(0, plain["optimizer_states"][0], flat) == state
