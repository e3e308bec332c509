"""Behaviour of a process on a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path

import pytest
import torch

from lit_biqa.cli import errors
from lit_biqa.runs import slurm, stops

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def interrupts_are_heard() -> Iterator[None]:
    """A background process of a shell inherits that interrupts are ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "status"), [(15, 143), (2, 130), (10, 138)])
def test_a_signal_ends_a_command_that_loses_nothing(
    number: int, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(each) for each in stops.SIGNALS]
    assert errors.guard(lambda: send(number)) == status
    assert f"stopped by {signal.Signals(number).name}: " in capsys.readouterr().err
    assert [signal.getsignal(each) for each in stops.SIGNALS] == before


def test_a_signal_waits_where_it_is_told_to_and_a_second_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with stops.heard():
        stops.wait()
        assert stops.asked(CPU) == 0
        send(signal.SIGTERM)
        # A launcher hands on at once what its group has heard.
        send(signal.SIGINT)
        assert stops.asked(CPU) == signal.SIGTERM
        with pytest.raises(stops.Stopped) as together:
            stops.check(CPU)
        assert together.value.together and together.value.status == 143
        now += 2 * stops.ECHO
        with pytest.raises(stops.Stopped) as second:
            send(signal.SIGINT)
        assert not second.value.together


def test_what_is_to_be_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert errors.guard(lambda: send(signal.SIGINT)) == 0
    finally:
        signal.signal(signal.SIGINT, before)


WORKER = """
import os, signal, subprocess, time
from lit_biqa.runs import stops

with stops.held_back():
    child = os.fork()
    if not child:
        stops.outlive_signals()
        while True:
            time.sleep(1)
for number in stops.SIGNALS:
    subprocess.run(["kill", f"-{int(number)}", str(child)], check=True)
# Signals of a kind that were not taken yet are one: more are sent until the child ends.
ended = 0
while not ended:
    os.kill(child, signal.SIGTERM)
    time.sleep(0.05)
    ended, status = os.waitpid(child, os.WNOHANG)
print(os.waitstatus_to_exitcode(status))
"""


def test_workers_end_by_their_parent_alone() -> None:
    command = [sys.executable, "-c", WORKER]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    # By a signal of another process it would have ended with its negative number.
    assert done.stdout == "0\n", done.stderr


def test_signals_end_the_workers_of_a_pool_at_once() -> None:
    with stops.heard(), Pool(1, stops.end_by_signals) as pool:
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        handlers = pool.map(signal.getsignal, [signal.SIGTERM, signal.SIGUSR1])
    assert handlers == [signal.SIG_DFL, signal.SIG_DFL]


def test_a_job_goes_back_into_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, told = tmp_path / "scontrol", tmp_path / "told"
    program.write_text(f'#!/bin/sh\necho "$@" >> {told}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    slurm.requeue(signal.SIGUSR1)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    slurm.requeue(signal.SIGTERM)
    assert not told.exists()
    slurm.requeue(signal.SIGUSR1)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    slurm.requeue(signal.SIGUSR1)
    assert told.read_text().splitlines() == ["requeue 12", "requeue 7_3"]
    assert not slurm.began_again()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert slurm.began_again()
