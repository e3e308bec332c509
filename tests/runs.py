"""Real runs of the command line on a little data set, in processes that can be killed.

Processes are forked from a server that has imported everything once: importing takes longer than
one of these runs. The command line in them is the real one.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import lit_biqa  # noqa: F401  before lightning, as it mends torchvision

# isort: split

import numpy as np
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image, ImageFilter
from torch import Tensor
from torch.distributed.tensor import DTensor

# Seconds after which a run hangs; on a busy machine a sound one has taken more than two minutes.
LIMIT = 900.0

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        *("lit_biqa.cli.main", "lit_biqa.methods.grpo", "open_clip", "sklearn.cluster"),
        *("transformers.models.qwen2_5_vl.modeling_qwen2_5_vl", "transformers.models.qwen2_vl"),
        "peft",
        *("torch.utils.tensorboard", "matplotlib.figure", "altair"),
    ]
)


def write_images(folder: Path, name: str, count: int, seed: int) -> Path:
    """A CSV of one's own: noise, the more blurred the lower its MOS, with one text or two."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        mos = 1 + 4 * generator.random()
        noise = generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        image = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(5 - mos))
        file = f"{name}-{number}.png"
        image.save(folder / file)
        words = ("blurred", "soft", "fair", "crisp", "sharp")
        texts = [f"image {number} looks {words[int(mos) - 1]}"]
        texts += [f"its grain is {words[int(mos) - 1]}"] if number % 4 == 0 else []
        rows += [(file, f"{mos:.4f}", text) for text in texts]
    with (folder / f"{name}.csv").open("w", newline="") as file_of_rows:
        writer = csv.writer(file_of_rows)
        writer.writerows([("image", "mos", "text"), *rows])
    return folder / f"{name}.csv"


def tiny_settings(folder: Path) -> dict[str, Any]:
    """Settings of a little RALI; 37 training images, 9 to validate on, 11 to test on.

    With their second texts the images make 47 rows: five steps of 8, and 7 rows left out.
    """
    encoder = {"dim": 16, "width": 16, "size": 32, "context": 16}
    head = {"pca": 4, "prototypes": 8, "buckets": 4, "lr": 0.01, "steps": 60}
    head["holdout"] = 0.3
    # A gradient that is zero but for rounding must not be blown up to a whole step.
    adam = {"lr": 0.003, "eps": 1e-4}
    init = {
        "encoder": {"class_path": "lit_biqa.backbones.tiny.TinyClip", "init_args": encoder},
        "head": head,
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": adam},
        "warmup": 0.2,
        "decay": "cosine",
    }
    return {
        "model": {"class_path": "lit_biqa.methods.rali.RALI", "init_args": init},
        "data": {
            "train": [str(write_images(folder, "train", 37, 0))],
            "val": [str(write_images(folder, "val", 9, 1))],
            "test": [str(write_images(folder, "test", 11, 2))],
            "loader": {"batch_size": 8, "eval_batch_size": 4, "num_workers": 0},
        },
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 3,
            "gradient_clip_val": 0.5,
            "log_every_n_steps": 1,
        },
        "report": {"bootstrap": 0},
    }


def write_settings(path: Path, settings: dict[str, Any]) -> Path:
    """Write a configuration file."""
    path.write_text(yaml.safe_dump(settings))
    return path


@dataclass(frozen=True)
class Run:
    """One or several processes of one command, and what they print."""

    processes: list[ForkServerProcess]
    log: Path

    def wait(self) -> int:
        """The status that the processes end with: that of the first that failed, or 0."""
        return next((code for code in self.codes() if code), 0)

    def codes(self) -> list[int | None]:
        """Wait, and tell the status of each process."""
        for process in self.processes:
            process.join(LIMIT)
        codes = [process.exitcode for process in self.processes]
        self.kill()
        assert None not in codes, f"still running after {LIMIT:.0f} s:\n{self.printed}"
        return codes

    def succeed(self) -> None:
        """Wait, and fail with what was printed unless all went well."""
        assert self.wait() == 0, self.printed

    def kill(self) -> None:
        """End the processes as a crash would: nothing is cleaned up. No worker is left behind."""
        for process in self.processes:
            process.kill()
            process.join()
            assert process.pid
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    @property
    def running(self) -> bool:
        """True if no process has ended."""
        return all(process.is_alive() for process in self.processes)

    @property
    def printed(self) -> str:
        """Output so far."""
        return self.log.read_text() if self.log.exists() else ""


def start(args: Sequence[object], log: Path, ranks: int = 1) -> Run:
    """Start a command as a launcher does that makes all ``ranks`` processes itself."""
    environments: list[dict[str, str]] = [{}]
    if ranks > 1:
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        shared |= {"WORLD_SIZE": str(ranks)}
        environments = [shared | {"LOCAL_RANK": str(r), "NODE_RANK": "0"} for r in range(ranks)]
    return start_each(args, log, environments)


def start_each(args: Sequence[object], log: Path, environments: Sequence[Mapping[str, str]]) -> Run:
    """Start a command once in each of these environments."""
    words = [str(word) for word in args]
    processes = [
        _context.Process(target=_command, args=(words, log, environment))
        for environment in environments
    ]
    for process in processes:
        process.start()
    return Run(processes, log)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _command(args: list[str], log: Path, environment: Mapping[str, str]) -> None:
    from lit_biqa.__main__ import main

    os.setsid()
    # A shell that starts tests in its background has them ignore interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # As in a plain command: workers are forked, not started through another server.
    multiprocessing.set_start_method("fork", force=True)
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.argv = ["lit_biqa", *args]
    sys.exit(main(args))


class Kill(Callback):
    """Ends its process without warning, as a crash of the machine would, at a chosen moment.

    Args:
        moment: hook at which it happens, such as ``train_batch_end``.
        step: optimizer steps after which it happens.
    """

    def __init__(self, moment: str, step: int) -> None:
        self.step = step
        setattr(self, f"on_{moment}", self._strike)

    def _strike(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step >= self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class Spoil(Callback):
    """Makes the gradient of one rank NaN in one step.

    Args:
        step: optimizer steps after which it happens.
        rank: on which.
    """

    def __init__(self, step: int, rank: int = 0) -> None:
        self.step, self.rank = step, rank

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Spoil it; with DDP ranks have exchanged their gradients by now."""
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            next(p.grad for p in pl_module.parameters() if p.grad is not None).fill_(torch.nan)


class ReferenceIsSharded(Callback):
    """Fails a step of GRPO after which weights of the reference are still gathered."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Look at all of them."""
        reference: Any = pl_module.reference
        assert all(isinstance(weight, DTensor) for weight in reference.copy.parameters())


class Stall(Callback):
    """Keeps one rank from a step that the others are in.

    Args:
        step: optimizer steps after which it happens.
        rank: that is kept.
    """

    def __init__(self, step: int, rank: int) -> None:
        self.step, self.rank = step, rank

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Sleep longer than any test."""
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            time.sleep(10 * LIMIT)


class Send(Callback):
    """Sends a signal at a chosen moment, as a launcher, a cluster or a person would.

    Args:
        moment: hook at which it happens, such as ``train_batch_end``.
        step: optimizer steps after which it happens.
        number: of the signal.
        rank: the process that gets it.
        group: whether its workers get it too.
    """

    def __init__(self, moment: str, step: int, number: int, rank: int, group: bool) -> None:
        self.step, self.number, self.rank, self.group = step, number, rank, group
        self.sent = False
        setattr(self, f"on_{moment}", self._strike)

    def _strike(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step < self.step or self.sent or trainer.global_rank != self.rank:
            return
        self.sent = True
        target = -os.getpgid(0) if self.group else os.getpid()
        # From outside: workers tell by the sender whether they are to end.
        command = ["kill", f"-{self.number}", "--", str(target)]
        subprocess.run(command, check=True, start_new_session=True)


def stopped(
    args: Sequence[object], log: Path, stop: Mapping[str, object], ranks: int = 1
) -> list[str]:
    """Run a command that a signal ends, see `Send`.

    Returns:
        The words of the command that it says to go on with.
    """
    send = [f"--trainer.callbacks.{name}={value}" for name, value in stop.items()]
    process = start([*args, "--trainer.callbacks=runs.Send", *send], log, ranks)
    codes = process.codes()
    number = signal.Signals(int(str(stop["number"])))
    assert codes == [128 + number] * ranks, process.printed
    assert "Traceback" not in process.printed, process.printed
    said = [line for line in process.printed.splitlines() if line.startswith("stopped by ")]
    head, _, command = said[-1].partition(": go on with: lit_biqa ")
    assert head == f"stopped by {number.name}", process.printed
    return shlex.split(command)


def killed(args: Sequence[object], log: Path, moment: str, step: int, ranks: int = 1) -> None:
    """Run a command that ends at a moment, see `Kill`."""
    kill = ["--trainer.callbacks=runs.Kill", f"--trainer.callbacks.moment={moment}"]
    process = start([*args, *kill, f"--trainer.callbacks.step={step}"], log, ranks)
    assert process.wait() == -9, process.printed


def logged(run: Path, tag: str) -> dict[int, float]:
    """Scalars that a run logged to TensorBoard, by step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[int, float] = {}
    for events in sorted(run.glob("events.out.tfevents.*"), key=lambda file: file.stat().st_mtime):
        log = EventAccumulator(str(events))
        log.Reload()
        if tag in log.Tags()["scalars"]:
            found |= {event.step: event.value for event in log.Scalars(tag)}
    return found


def state(path: Path) -> dict[str, Any]:
    """Content of a checkpoint."""
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def weights(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint."""
    found: dict[str, Tensor] = state(path)["state_dict"]
    return found


def same(one: Any, other: Any) -> bool:
    """True if two states are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
