"""Checkpoint files: what torch reads of them, and how damage is told."""

from __future__ import annotations

import io
import os
import pickle
import random
import shutil
import subprocess
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import (
    DDPStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    Strategy,
)
from torch.distributed.checkpoint.filesystem import FileSystemReader

from lit_biqa.io.archives import check_archive
from lit_biqa.runs.checkpoints import WholeCheckpointIO, read_state, refuse_sharded
from lit_biqa.runs.folder import RunFolder, check_checkpoint, choose, find_weights
from lit_biqa.types import InputError

FLIPS = 1000


def content() -> dict[str, Any]:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "state_dict": {**model.state_dict(), "half": torch.ones(3, dtype=torch.bfloat16)},
        "optimizer_states": [optimizer.state_dict()],
        "loops": {"fit_loop": {"epoch": {"total": 3}}},
        "callbacks": {"RunCheckpoint": {"best": 0.25, "waited": 1}},
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint(content(), path)
    return path


def as_plain(value: Any) -> Any:
    """Tensors as types and lists, so that two checkpoints can be compared."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.tolist()
    if isinstance(value, dict):
        return {key: as_plain(each) for key, each in value.items()}
    return [as_plain(each) for each in value] if isinstance(value, list) else value


def read(path: Path) -> Any:
    check_checkpoint(path, resume=True)
    return as_plain(WholeCheckpointIO().load_checkpoint(path))


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_reads_it_as_ever(path: Path, mmap: bool) -> None:
    found = torch.load(path, weights_only=True, mmap=mmap)
    assert as_plain(found) == read(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_a_flipped_bit_is_told(path: Path) -> None:
    """Anywhere: what holds no value, such as the padding of tensors, is not told apart."""
    whole, expected, told = path.read_bytes(), read(path), 0
    draw = random.Random(0)
    # The last kilobyte has the directory, and the digest itself.
    spans = [range(len(whole)), range(len(whole) - 1000, len(whole))]
    for flip in range(FLIPS):
        place, bit = draw.choice(spans[flip % 2]), 1 << draw.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        try:
            found = read(path)
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            told += 1
        else:
            assert found == expected, f"bit {bit} of byte {place} changed values"
    assert told >= 0.99 * FLIPS


def test_a_broken_mark_hides_no_damage(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    for place in (-70, len(whole) // 2):
        whole[place] ^= 1
    path.write_bytes(whole)
    with pytest.raises(InputError, match="damaged"):
        read(path)


def test_a_file_of_others_or_of_before_is_read(tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "theirs.ckpt")
    assert read(tmp_path / "theirs.ckpt")["loops"] == {"fit_loop": {"epoch": {"total": 3}}}


def test_large_tensors_are_digested_beside_the_writing(tmp_path: Path) -> None:
    """And as `torch.save` alone writes them, up to the comment."""
    state = {"state_dict": {"weight": torch.arange(2**21)}}  # 16 MB
    WholeCheckpointIO().save_checkpoint(state, tmp_path / "x.ckpt")
    alone = io.BytesIO()
    torch.save(state, alone)
    with zipfile.ZipFile(tmp_path / "x.ckpt") as ours, zipfile.ZipFile(alone) as theirs:
        assert len(ours.comment) == 75 and theirs.comment == b""
    assert torch.equal(read_state(tmp_path / "x.ckpt")["weight"], state["state_dict"]["weight"])
    damaged = bytearray((tmp_path / "x.ckpt").read_bytes())
    damaged[2**23] ^= 1
    (tmp_path / "y.ckpt").write_bytes(damaged)
    with pytest.raises(InputError, match=r"y\.ckpt is damaged"):
        read_state(tmp_path / "y.ckpt")


def test_a_checked_file_that_was_changed_is_checked_again(path: Path) -> None:
    check_archive(path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="damaged"):
        check_archive(path)


class Program:
    """Runs a program when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return subprocess.check_call, (["touch", str(self.mark)],)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sharded checkpoint whose `.metadata` runs a program."""
    folder = tmp_path / "checkpoints" / "last.ckpt"
    folder.mkdir(parents=True)
    (folder / ".metadata").write_bytes(pickle.dumps(Program(tmp_path / "ran")))
    return folder


def test_folders_are_refused_wherever_a_checkpoint_is_named(folder: Path, tmp_path: Path) -> None:
    run, requeued = RunFolder(tmp_path), tmp_path / "requeued" / "hpc_ckpt_1.ckpt"
    shutil.copytree(folder, requeued)
    for refuse in (
        lambda: check_checkpoint(folder, resume=False),
        lambda: find_weights(None, str(folder)),
        lambda: find_weights(run, "last"),
        lambda: find_weights(run, None),
        lambda: read_state(folder),
        lambda: WholeCheckpointIO().load_checkpoint(folder),
        lambda: choose(RunFolder(requeued.parent), [], nodes=1),
    ):
        with pytest.raises(InputError, match=r"is a folder.*save_distributed_checkpoint: false"):
            refuse()
    assert not (tmp_path / "ran").exists()
    with suppress(Exception):
        FileSystemReader(folder).read_metadata()
    assert (tmp_path / "ran").exists()  # torch itself would have run it


@pytest.mark.parametrize(
    ("strategy", "remedy"),
    [
        (ModelParallelStrategy(), "save_distributed_checkpoint: false"),
        (ModelParallelStrategy(save_distributed_checkpoint=False), None),
        (FSDPStrategy(state_dict_type="sharded"), "state_dict_type: full"),
        (FSDPStrategy(), None),
        (DDPStrategy(), None),
    ],
)
def test_strategies_that_would_write_folders_are_refused(
    strategy: Strategy, remedy: str | None
) -> None:
    if remedy is None:
        refuse_sharded(strategy)
        return
    with pytest.raises(InputError, match=f"as folders.*set {remedy}"):
        refuse_sharded(strategy)


def test_pipes_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ckpt")
    with pytest.raises(InputError, match=r"pipe\.ckpt is a pipe"):
        find_weights(None, str(tmp_path / "pipe.ckpt"))
