"""Two machines, played by one: the lines of docs/scale.md end in what one machine comes to."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pages
import pytest
import runs
import torch
from safetensors import safe_open

# What a page's line leaves to recipes of real size, which need GPUs.
SMALL = ["--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.precision=32-true"]


def words_of(language: str, program: str) -> list[list[str]]:
    """Lines of docs/scale.md that start a program, each as its words."""
    text = "".join(pages.blocks("scale.md", language)).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [words for words in lines if words and words[0] == program]


def put(words: list[str], values: Mapping[str, object]) -> list[str]:
    """The words, with other values after the first of each of these options."""
    words = list(words)
    for option, value in values.items():
        words[words.index(option) + 1] = str(value)
    return words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe."""
    folder = tmp_path_factory.mktemp("nodes")
    runs.write_settings(folder / "fit.yaml", runs.tiny_settings(folder / "data"))
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """The run of two processes on one machine."""
    args = ["fit", "--config", folder / "fit.yaml", "--run", folder / "whole"]
    args += ["--trainer.devices=2", "--trainer.strategy=ddp"]
    runs.start(args, folder / "whole.log", ranks=2).succeed()
    return folder / "whole"


def by_torchrun(folder: Path, name: str, *more: str) -> None:
    """Run both lines of torchrun at once, each as a machine of one process."""
    lines = words_of("sh", "torchrun")
    ours = {"--nproc_per_node": 1, "--master_addr": "127.0.0.1", "--master_port": runs.free_port()}
    ours |= {"--config": folder / "fit.yaml", "--run": folder / name}
    program = str(Path(sys.executable).with_name("torchrun"))
    groups = [
        subprocess.Popen(
            [program, *put(words, ours)[1:], *SMALL, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for words in lines
    ]
    try:
        printed = [group.communicate(timeout=runs.LIMIT)[0] for group in groups]
    finally:
        for group in groups:
            group.kill()
    assert [group.returncode for group in groups] == [0, 0], "\n".join(printed)
    # The first process of all tells what was written.
    assert ["fit took " in each for each in printed] == [True, False]


def by_srun(folder: Path, name: str, job: int, *more: str, **variables: str) -> runs.Run:
    """Start the line of Slurm as srun does, on two machines of one process."""
    (words,) = words_of("bash", "srun")
    words = put(words, {"--config": folder / "fit.yaml", "--run": folder / name})
    args = [*words[words.index("lit_biqa") + 1 :], *SMALL, *more]
    machines = [slurm(job, rank) | variables for rank in range(2)]
    return runs.start_each(args, folder / f"{name}.log", machines)


def slurm(job: int, rank: int) -> dict[str, str]:
    """Variables that srun sets for a rank of two machines, whose names are of this one."""
    return {
        "SLURM_JOB_ID": str(job),
        "SLURM_JOB_NAME": "job.sh",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NNODES": "2",
        "SLURM_NODELIST": "127.0.0.[1-2]",
        "SLURM_JOB_NODELIST": "127.0.0.[1-2]",
        "SLURM_NTASKS": "2",
        "SLURM_NPROCS": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_TASKS_PER_NODE": "1(x2)",
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": str(rank),
        "SLURM_NODEID": str(rank),
        "SLURM_LOCALID": "0",
    }


def free_job() -> int:
    """Number of a job whose port, by which Lightning has its processes meet, is free."""
    for job in range(2001, 9999):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", 15_000 + job)):
                return job
    raise RuntimeError("no port is free")


def names(run: Path) -> list[str]:
    """Files of a run; events by their kind alone, as their names hold time and process."""
    found = [str(file.relative_to(run)) for file in run.rglob("*") if file.is_file()]
    return sorted(re.sub(r"(tfevents)\.[^/]*", r"\1", name) for name in found)


def scorer_of(run: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Notes and tensors of a scorer; the order of the notes in the file is left to chance."""
    with safe_open(run / "scorer.safetensors", "pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def assert_equal_runs(run: Path, whole: Path) -> None:
    """Equal to the last bit, weights and results, and of the same files."""
    for name in ("last", "best"):
        one, other = (runs.state(path / "checkpoints" / f"{name}.ckpt") for path in (run, whole))
        assert one["global_step"] == other["global_step"]
        for key in ("state_dict", "optimizer_states", "lr_schedulers"):
            assert runs.same(one.get(key), other.get(key)), (name, key)
    for file in ("test/results.csv", "test/predictions.csv"):
        assert (run / file).read_bytes() == (whole / file).read_bytes(), file
    ours, theirs = (scorer_of(path) for path in (run, whole))
    assert ours[0] == theirs[0]
    assert runs.same(ours[1], theirs[1])
    assert set(names(run)) == set(names(whole))


def written_once(run: Path, whole: Path) -> bool:
    """True if there are no more events or lines of costs than of one machine."""
    costs = [len((path / "costs.csv").read_text().splitlines()) for path in (run, whole)]
    return names(run) == names(whole) and costs == [2, 2]


def test_torchrun_on_two_machines_does_what_one_does(folder: Path, whole: Path) -> None:
    first, second = words_of("sh", "torchrun")
    assert put(first, {"--node_rank": 1}) == second
    by_torchrun(folder, "torchrun")
    assert_equal_runs(folder / "torchrun", whole)
    assert written_once(folder / "torchrun", whole)


def test_torchrun_resumes_on_two_machines(folder: Path, whole: Path) -> None:
    run = folder / "resumed"
    args = ["fit", "--config", folder / "fit.yaml", "--run", run, "--checkpoint.every_n_steps=3"]
    args += ["--trainer.devices=2", "--trainer.strategy=ddp"]
    runs.killed(args, folder / "resumed.log", "train_batch_end", 8, ranks=2)
    by_torchrun(folder, "resumed", "--ckpt_path=last")
    assert_equal_runs(run, whole)


def test_slurm_on_two_machines_does_what_one_does(folder: Path, whole: Path) -> None:
    """A second fit in the same folder is refused at once by both."""
    by_srun(folder, "slurm", free_job()).succeed()
    assert_equal_runs(folder / "slurm", whole)
    assert written_once(folder / "slurm", whole)
    again = by_srun(folder, "slurm", free_job())
    assert again.codes() == [2, 2]
    assert again.printed.count("already holds a fit (last.ckpt)") == 2
    assert_equal_runs(folder / "slurm", whole)


def test_a_job_of_two_machines_is_requeued_and_goes_on(folder: Path, whole: Path) -> None:
    """The signal reaches the second machine alone, and the job is requeued once, by the first."""
    told = folder / "told"
    (program := folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {told}\n')
    program.chmod(0o755)
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    send = {"moment": "train_batch_end", "step": 8, "number": 10, "rank": 1, "group": False}
    more = ["--trainer.callbacks=runs.Send"]
    more += [f"--trainer.callbacks.{name}={value}" for name, value in send.items()]
    job = free_job()
    stopped = by_srun(folder, "requeued", job, *more, **path)
    assert stopped.codes() == [138, 138], stopped.printed
    assert told.read_text() == f"requeue {job}\n"
    assert runs.state(folder / "requeued" / "checkpoints" / "last.ckpt")["global_step"] == 8
    by_srun(folder, "requeued", job, **path, SLURM_RESTART_COUNT="1").succeed()
    assert_equal_runs(folder / "requeued", whole)
