"""Run folders: the one folder that a run writes to, and the weights in it.

A run folder holds ``config.yaml``, ``checkpoints/best.ckpt`` and ``checkpoints/last.ckpt``, the
TensorBoard events, ``test/`` and ``predictions.csv``.
"""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import textwrap
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_biqa.io.archives import check_archive, refuse_folder
from lit_biqa.io.files import refuse_bytes
from lit_biqa.runs import lock
from lit_biqa.types import InputError

# Lightning's processes for the other devices read the first one's folder from here.
_HANDED_DOWN = "LIT_BIQA_RUN"
_SIZES_SET_BY_LAUNCHERS = ("WORLD_SIZE", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


@dataclass(frozen=True)
class RunFolder:
    """Folder that a run writes to.

    Attributes:
        path: the folder; it need not exist yet.
    """

    path: Path

    @property
    def config(self) -> Path:
        """Settings of the fit; the run can be repeated from this file."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """Weights with the best validation result."""
        return self.checkpoints / "best.ckpt"

    @property
    def last(self) -> Path:
        """Latest state of the training, to resume from."""
        return self.checkpoints / "last.ckpt"

    def refuse_if_used(self, settings: str) -> None:
        """Refuse a folder that another run uses, so that the results of two runs never mix.

        A fit with the same settings that was killed before it saved anything is started again.

        Args:
            settings: of the new fit, as ``config.yaml`` would hold them.

        Raises:
            InputError: if another run has written here.
        """
        if self.last.exists():
            raise InputError(
                f"the run folder {self.path} already holds a fit (last.ckpt): resume it with "
                f"--run {self.path} --ckpt_path last, or name another folder with --run."
            )
        if self.best.exists():
            raise InputError(
                f"the run folder {self.path} already holds a fit (best.ckpt): name another folder "
                f"with --run."
            )
        if self.config.exists() and self.config.read_text(encoding="utf-8") != settings:
            raise InputError(
                f"the run folder {self.path} already holds a fit (its config.yaml has other "
                f"settings): name another folder with --run, or repeat the command that made it."
            )

    def prepare(self) -> None:
        """Make the folder and check that it can be written to, before any work is done.

        Raises:
            InputError: if it cannot: the disk is full, rights are missing, or the name is not
                UTF-8.
        """
        refuse_bytes(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path) as file:
                file.write(bytes(2**16))
        except OSError as error:
            raise InputError(
                f"cannot write to the run folder {self.path}: {error.strerror}. "
                f"Free disk space, ask for write access, or name another folder with --run."
            ) from error

    def discard_if_bare(self, fitting: bool = False, locked: bool = False) -> None:
        """Remove the folder of a run that failed before it wrote anything.

        Args:
            fitting: true if a fit that took no step has just saved its settings there.
            locked: true if the caller holds the lock that lies there.
        """
        files = list(self.path.iterdir()) if self.path.is_dir() else []
        begun = [file for file in files if not file.name.startswith("events.out.tfevents.")]
        begun = [file for file in begun if not (locked and file.name == lock.NAME)]
        if all(fitting and file == self.config for file in begun):
            shutil.rmtree(self.path, ignore_errors=True)


def find_weights(
    run: RunFolder | None, wanted: str | None, configs: Sequence[Path] = ()
) -> Path | None:
    """Checkpoint to start from.

    Args:
        run: the run folder that was named, if any.
        wanted: ``best``, ``last``, ``none`` or a path; ``None`` takes the best of the run folder,
            or its last if it was never validated.
        configs: configuration files, as given; the error mentions weights beside them.

    Returns:
        An existing file, or ``None`` for the model with the weights of its settings.

    Raises:
        InputError: if there is no such checkpoint, or it is a folder.
    """
    if wanted == "none":
        return None
    if wanted not in (None, "best", "last"):
        candidates = [Path(str(wanted)).expanduser()]
    elif run is None:
        raise InputError(
            "no weights were named. Name the folder of a finished fit with --run, a checkpoint "
            "with --ckpt_path, or --ckpt_path none for the model as its settings make it."
            + _beside(configs)
        )
    else:
        candidates = {"best": [run.best], "last": [run.last]}.get(str(wanted), [run.best, run.last])
    for path in candidates:
        if path.exists():
            refuse_folder(path)
            return path.absolute()
    absent = wanted in (None, "best", "last") and run is not None and not run.path.exists()
    raise InputError(
        f"no checkpoint at {candidates[0]}{' (the run folder does not exist)' * absent}: "
        "name the folder of a finished fit with --run, "
        "a file with --ckpt_path, or --ckpt_path none for the model as its settings make it."
        + _beside(configs)
    )


def _beside(configs: Sequence[Path]) -> str:
    """Hint at weights in the run folders whose ``config.yaml`` was named."""
    runs = [RunFolder(config.parent) for config in configs if config.name == "config.yaml"]
    weights = [path for run in runs for path in (run.best, run.last) if path.is_file()]
    return f" Weights beside the configuration: --ckpt_path {weights[0]}." if weights else ""


def choose(named: RunFolder | None, configs: Sequence[Path], nodes: int) -> RunFolder:
    """Choose the run folder, and pass it to the processes that will be started from this one.

    Args:
        named: the folder of ``--run``; ``None`` makes ``runs/<configuration>-<date>-<time>``.
        configs: configuration files, as given.
        nodes: number of machines that take part.

    Raises:
        InputError: if several processes were started at once and no folder was named, if the folder
            cannot be written to, or if it holds a requeued job's checkpoint that must not be read.
    """
    handed_down = os.environ.get(_HANDED_DOWN)
    if named is not None:
        path = named.path
    elif handed_down and not is_first_process():
        path = Path(handed_down)
    elif nodes > 1 or started_by_launcher(os.environ):
        raise InputError(
            "several processes were started at once: name one run folder for all with --run."
        )
    else:
        path = _claim(Path("runs").absolute(), _stem(configs))
    run = RunFolder(path)
    run.prepare()
    for requeued in path.glob("hpc_ckpt_*"):
        # Lightning loads it by itself on SLURM.
        check_checkpoint(requeued, resume=False)
    os.environ[_HANDED_DOWN] = str(path)
    return run


def is_global_zero() -> bool:
    """True in the first process of all machines, as far as the launchers' variables tell."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        # Machines need not have the same order for torchrun and for srun that starts it.
        return os.environ.get("RANK", "0") == "0"
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
    names = (*ranks, "OMPI_COMM_WORLD_RANK", "PMI_RANK")
    return all(os.environ.get(name) in (None, "", "0") for name in names)


def is_first_process() -> bool:
    """True in the process of the first device of its machine."""
    # srun sets no LOCAL_RANK.
    return os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0"


def started_by_launcher(environment: Mapping[str, str]) -> bool:
    """True if torchrun, srun or mpirun started several processes like this one."""
    sizes = (environment.get(name, "1") for name in _SIZES_SET_BY_LAUNCHERS)
    return any(size.isdigit() and int(size) > 1 for size in sizes)


def _stem(configs: Sequence[Path]) -> str:
    if not configs:
        return "run"
    first = configs[0].absolute()
    return first.parent.name if first.stem == "config" else first.stem


def _claim(parent: Path, stem: str) -> Path:
    # Making the folder reserves it: jobs that start in the same second must not share one.
    for number in range(1000):
        suffix = f"-{number}" if number else ""
        path = parent / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}{suffix}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise InputError(f"no free folder name for {stem} under {parent}: name a folder with --run.")


def check_checkpoint(path: Path, resume: bool) -> dict[str, Any]:
    """Refuse a file that is no checkpoint of ours, before anything heavy is built.

    Only the outline of the file is read; nothing in it is executed.

    Args:
        path: the checkpoint file.
        resume: true if it must hold the state of the training beside the weights.

    Returns:
        Content of the checkpoint, with tensors mapped from the disk.

    Raises:
        InputError: if the file is damaged, absent or a folder, holds objects other than tensors and
            plain values, or lacks the state that ``resume`` needs.
    """
    import torch

    check_archive(path)
    try:
        # A file that is no whole zip archive was cut short, or another program wrote it.
        if not zipfile.is_zipfile(path):
            raise InputError(f"{path} is no checkpoint, or an incomplete one.")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} was not loaded: it holds objects other than tensors and plain values, and "
            "such a file could run a program. Take a checkpoint that lit_biqa wrote."
        ) from error
    except InputError:
        raise
    except Exception as error:  # a damaged file can raise any error
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
        raise InputError(f"{path} cannot be read as a checkpoint: {reason}") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise InputError(f"{path} is no checkpoint of a run: it holds no `state_dict`.")
    if resume and "optimizer_states" not in content:
        raise InputError(f"{path} holds weights only: resume with --ckpt_path last.")
    return content


def check_ends(path: Path, content: Mapping[str, Any], trainer: Any) -> None:
    """Refuse to resume a fit that is already past its new limit.

    Args:
        path: the checkpoint file.
        content: its content.
        trainer: the Trainer's settings.

    Raises:
        InputError: names the setting.
    """
    loops = content.get("loops", {}).get("fit_loop", {})
    epochs = loops.get("epoch_progress", {}).get("current", {}).get("processed", 0)
    reached = {"max_epochs": epochs, "max_steps": content.get("global_step", 0)}
    for name, done in reached.items():
        limit = getattr(trainer, name)
        if limit is not None and 0 <= limit < done:
            raise InputError(
                f"{path} has reached {done} {name.removeprefix('max_')}, and trainer.{name} is "
                f"{limit}: set it to at least {done}, or name another checkpoint."
            )
