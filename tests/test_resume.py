"""A run that is killed goes on from its last checkpoint, to what it would have come to."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import runs

STEPS = 15  # in three epochs


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    return runs.write_settings(folder / "fit.yaml", runs.tiny_settings(folder / "data"))


@pytest.fixture(scope="module")
def whole(settings: Path) -> Path:
    """The run that nothing interrupts."""
    run = settings.parent / "whole"
    runs.start(["fit", "--config", settings, "--run", run], run.with_suffix(".log")).succeed()
    return run


def assert_equal_runs(run: Path, whole: Path) -> None:
    for name in ("last", "best"):
        one, other = (runs.state(path / "checkpoints" / f"{name}.ckpt") for path in (run, whole))
        assert one["global_step"] == other["global_step"] and one["epoch"] == other["epoch"]
        for key in ("state_dict", "optimizer_states", "lr_schedulers"):
            assert runs.same(one.get(key), other.get(key)), (name, key)
    # A loss that had not reached the disk when its process was killed is in no log.
    losses, expected = (runs.logged(path, "train/loss") for path in (run, whole))
    assert losses and losses.items() <= expected.items()
    for file in ("test/results.csv", "test/predictions.csv", "scorer.safetensors"):
        assert (run / file).read_bytes() == (whole / file).read_bytes(), file
    assert (run / "embeddings.safetensors").exists()


def resume_through(
    kills: list[tuple[int, str]], fit: list[object], run: Path, every: int, workers: int
) -> None:
    """Begin, be killed at each step and moment in turn, go on, and come to the end."""
    args = [*fit, "--run", run, f"--checkpoint.every_n_steps={every}"]
    args += [f"--data.loader.num_workers={workers}"]
    log, resume = run.with_suffix(".log"), [*args, "--ckpt_path=last"]
    for number, (step, moment) in enumerate(kills):
        runs.killed(resume if number else args, log, moment, step)
        kept = runs.state(run / "checkpoints" / "last.ckpt")["global_step"]
        assert step - every <= kept <= step
    runs.start(resume, log).succeed()


def test_killed_within_an_epoch_and_in_the_best_validation(
    settings: Path, whole: Path, tmp_path: Path
) -> None:
    best = runs.state(whole / "checkpoints" / "best.ckpt")["global_step"]
    kills = sorted([(8, "train_batch_end"), (best, "validation_batch_start")])
    resume_through(kills, ["fit", "--config", settings], tmp_path / "run", every=1, workers=0)
    assert_equal_runs(tmp_path / "run", whole)


def test_killed_between_epochs_and_in_the_test(settings: Path, whole: Path, tmp_path: Path) -> None:
    # The second falls three steps behind the last checkpoint: they are done again.
    kills = [(5, "train_epoch_start"), (12, "train_batch_end"), (15, "test_batch_start")]
    resume_through(kills, ["fit", "--config", settings], tmp_path / "run", every=3, workers=1)
    assert_equal_runs(tmp_path / "run", whole)


def test_a_run_that_was_stopped_does_not_go_on(settings: Path, whole: Path, tmp_path: Path) -> None:
    first, second, _ = runs.logged(whole, "val/plcc").values()
    run, log = tmp_path / "run", tmp_path / "log"
    fit = ["fit", "--config", settings, "--run", run, "--checkpoint.monitor=val/plcc"]
    # By this measure the first epoch is the best, and one more is waited for.
    fit += [f"--checkpoint.mode={'min' if second > first else 'max'}", "--checkpoint.patience=1"]
    runs.killed(fit, log, "test_batch_start", 10)
    runs.start([*fit, "--ckpt_path=last"], log).succeed()
    assert runs.state(run / "checkpoints" / "last.ckpt")["global_step"] == 10
    assert (run / "test" / "results.csv").exists()


def test_a_kill_while_a_checkpoint_is_written_costs_nothing(
    settings: Path, whole: Path, tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    fit = ["fit", "--config", settings, "--run", run, "--checkpoint.every_n_steps=1"]
    last = run / "checkpoints" / "last.ckpt"
    reached: list[int] = []
    for written in (1, 2, 2):
        process = runs.start([*fit, *(["--ckpt_path=last"] if reached else [])], log)
        wait_for_writing(process, last, written)
        process.kill()
        reached.append(runs.state(last)["global_step"])
    assert reached == sorted(reached) and reached[-1] < STEPS
    runs.start([*fit, "--ckpt_path=last"], log).succeed()
    assert_equal_runs(run, whole)


def wait_for_writing(process: runs.Run, checkpoint: Path, times: int) -> None:
    """Until the file has been replaced so many times, and is being written again."""
    before, end = stamp(checkpoint), time.monotonic() + runs.LIMIT
    while times or not any(checkpoint.parent.glob(f"*{checkpoint.name}.part")):
        assert process.running and time.monotonic() < end, process.printed
        now = stamp(checkpoint)
        times, before = times - (times > 0 and now != before), now


def stamp(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0
