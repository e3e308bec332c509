"""Which folder a run writes to, and which weights it starts from."""

from __future__ import annotations

import pickle
import re
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lit_biqa.runs import folder
from lit_biqa.runs.folder import (
    RunFolder,
    check_checkpoint,
    check_ends,
    choose,
    find_weights,
    is_first_process,
    is_global_zero,
)
from lit_biqa.runs.lock import RunLock
from lit_biqa.types import InputError


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("LIT_BIQA_RUN", "LOCAL_RANK", *folder._SIZES_SET_BY_LAUNCHERS):
        # Set, so that it is put back; an empty value says nothing.
        monkeypatch.setenv(name, "")
    monkeypatch.delenv("LOCAL_RANK")


def finished(path: Path, *names: str) -> RunFolder:
    run = RunFolder(path)
    run.checkpoints.mkdir(parents=True)
    for name in names:
        (run.checkpoints / name).touch()
    run.config.touch()
    return run


def test_unnamed_runs_are_named_by_their_configuration(tmp_path: Path) -> None:
    run = choose(None, [Path("configs/quick.yaml"), Path("other.yaml")], nodes=1)
    assert run.path.parent == tmp_path / "runs"
    assert re.fullmatch(r"quick-\d{8}-\d{6}", run.path.name)
    # A saved config.yaml goes by the run that it lies in.
    assert choose(None, [Path("runs/first/config.yaml")], 1).path.name.startswith("first-")
    assert choose(None, [], 1).path.name.startswith("run-")


def test_runs_started_in_the_same_second_do_not_share_a_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.strftime", lambda _: "now")
    names = [choose(None, [Path("a.yaml")], 1).path.name for _ in range(3)]
    assert names == ["a-now", "a-now-1", "a-now-2"]


def test_processes_of_other_devices_write_where_the_first_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = choose(None, [Path("a.yaml")], 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert choose(None, [Path("a.yaml")], 1) == first


@pytest.mark.parametrize(("name", "nodes"), [("WORLD_SIZE", 1), ("SLURM_NTASKS", 1), (None, 2)])
def test_processes_of_a_launcher_must_be_told_their_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str | None, nodes: int
) -> None:
    if name:
        monkeypatch.setenv(name, "2")
    with pytest.raises(InputError, match="--run"):
        choose(None, [Path("a.yaml")], nodes)
    named = RunFolder(tmp_path / "x")
    assert choose(named, [Path("a.yaml")], nodes) == named


def test_a_folder_that_cannot_be_written_to_is_found_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to the run folder .*file: File exists"):
        choose(RunFolder(tmp_path / "file"), [], 1)


@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
def test_a_folder_with_a_checkpoint_is_refused(tmp_path: Path, name: str) -> None:
    run = finished(tmp_path / "run", name)
    message = rf"already holds a fit \({name}\): .*name another folder with --run"
    with pytest.raises(InputError, match=message):
        run.refuse_if_used("")


def test_a_fit_that_saved_nothing_is_begun_anew_by_the_same_settings(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / "notes.txt").touch()
    run.refuse_if_used("a: 1")
    run.config.write_text("a: 1")
    run.refuse_if_used("a: 1")
    with pytest.raises(InputError, match=r"its config.yaml has other settings\): name another"):
        run.refuse_if_used("a: 2")


def test_only_a_folder_without_a_run_is_discarded(tmp_path: Path) -> None:
    bare = RunFolder(tmp_path / "bare")
    bare.prepare()
    (bare.path / "events.out.tfevents.1").touch()
    bare.discard_if_bare()
    assert not bare.path.exists()
    used = finished(tmp_path / "used")
    used.discard_if_bare()
    assert used.config.exists()


def test_weights_default_to_the_best_and_then_the_last(tmp_path: Path) -> None:
    run = finished(tmp_path / "a", "best.ckpt", "last.ckpt")
    assert find_weights(run, None) == run.best
    assert find_weights(run, "last") == run.last
    assert find_weights(run, "none") is None
    assert find_weights(None, str(run.last)) == run.last
    unvalidated = finished(tmp_path / "b", "last.ckpt")
    assert find_weights(unvalidated, None) == unvalidated.last


@pytest.mark.parametrize(
    ("wanted", "message"),
    [(None, "no checkpoint at .*best.ckpt"), ("last", "last.ckpt"), ("x.ckpt", "at x.ckpt")],
)
def test_absent_weights_are_named(tmp_path: Path, wanted: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_weights(finished(tmp_path / "a"), wanted)


def test_weights_of_no_run_must_be_named() -> None:
    with pytest.raises(InputError, match="no weights were named"):
        find_weights(None, None)


class Malicious:
    """Unpickling it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("form", ["archive", "legacy", "pickle"])
def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, form: str) -> None:
    file, trace = tmp_path / "x.ckpt", tmp_path / "executed"
    content = {"state_dict": {}, "extra": Malicious(trace)}
    if form == "pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=form == "archive")
    with pytest.raises(InputError, match=r"x\.ckpt"):
        check_checkpoint(file, resume=False)
    assert not trace.exists()
    # The file is as harmful as it says.
    with suppress(RuntimeError):
        torch.load(file, weights_only=False)
    assert trace.exists()


def test_checkpoints_are_checked_for_what_they_are_wanted_for(tmp_path: Path) -> None:
    file = tmp_path / "x.ckpt"
    torch.save({"state_dict": {"w": torch.zeros(1000)}}, file)
    check_checkpoint(file, resume=False)
    with pytest.raises(InputError, match="weights only"):
        check_checkpoint(file, resume=True)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(InputError, match="or an incomplete one"):
        check_checkpoint(file, resume=False)
    torch.save({"w": torch.zeros(1)}, file)
    with pytest.raises(InputError, match="state_dict"):
        check_checkpoint(file, resume=False)


def test_a_fit_that_took_no_step_leaves_nothing(tmp_path: Path) -> None:
    """Its settings were saved, then the data turned out to be wrong."""
    started = RunFolder(tmp_path / "started")
    started.prepare()
    started.config.touch()
    started.discard_if_bare()
    assert started.config.exists()
    started.discard_if_bare(fitting=True)
    assert not started.path.exists()
    with RunLock(tmp_path):
        tmp = RunFolder(tmp_path)
        tmp.discard_if_bare(fitting=True)
        assert tmp_path.exists(), "a fit that runs there is about to begin"
    resumed = finished(tmp_path / "resumed", "last.ckpt")
    resumed.discard_if_bare(fitting=True)
    assert resumed.last.exists()


def test_a_run_is_not_resumed_beyond_its_end(tmp_path: Path) -> None:
    progress = {"current": {"processed": 3}}
    content = {"global_step": 12, "loops": {"fit_loop": {"epoch_progress": progress}}}
    for epochs, steps in ((3, 12), (-1, -1), (None, 20)):
        limits = SimpleNamespace(max_epochs=epochs, max_steps=steps)
        check_ends(tmp_path, content, limits)
    with pytest.raises(InputError, match=r"has reached 3 epochs, and trainer.max_epochs is 2: "):
        check_ends(tmp_path, content, SimpleNamespace(max_epochs=2, max_steps=-1))
    with pytest.raises(InputError, match=r"has reached 12 steps, and trainer.max_steps is 5: "):
        check_ends(tmp_path, content, SimpleNamespace(max_epochs=3, max_steps=5))


@pytest.mark.parametrize(
    ("variables", "of_all", "of_its_machine"),
    [
        ({}, True, True),
        ({"SLURM_PROCID": "1", "SLURM_LOCALID": "0"}, False, True),
        ({"SLURM_PROCID": "1", "SLURM_LOCALID": "1"}, False, False),
        ({"NODE_RANK": "0", "LOCAL_RANK": "1"}, False, False),
        # srun starts a torchrun on each machine, and torchrun has numbered them the other way.
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "SLURM_PROCID": "1"}, True, True),
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "8", "SLURM_PROCID": "0"}, False, True),
    ],
)
def test_the_first_process_of_all_and_of_its_machine(
    variables: dict[str, str], of_all: bool, of_its_machine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "SLURM_LOCALID")
    for name in ("TORCHELASTIC_RUN_ID", *names):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (is_global_zero(), is_first_process()) == (of_all, of_its_machine)
