"""FSDP2 whose checkpoints may be shards, written and read without gathering them on one process."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from lit_biqa.io.digests import digests_of_files
from lit_biqa.io.files import draft
from lit_biqa.runs import shards
from lit_biqa.types import InputError


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's ``ModelParallelStrategy``, with shards that are safetensors.

    With ``save_distributed_checkpoint=True`` a checkpoint is a file and a folder beside it (see
    `lit_biqa.runs.shards`), written whole or not at all. All processes must see the run folder. Any
    number of processes resumes from it, and so does one without this strategy. Whole files are
    resumed too.

    Args:
        reshard_after_forward: false keeps each block whole from its forward pass to its backward
            pass: one gather less for each, and the memory of whole weights.
        *arguments: those of the base class.
        **settings: those of the base class.

    Attributes:
        unpickles: false, as its folders hold safetensors.
    """

    unpickles = False

    def __init__(
        self, *arguments: Any, reshard_after_forward: bool = True, **settings: Any
    ) -> None:
        super().__init__(*arguments, **settings)
        self.reshard_after_forward = reshard_after_forward

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; all ranks call it.

        Raises:
            OSError: if it cannot be written; an older one at ``filepath`` is kept.
        """
        if not self._save_distributed_checkpoint:
            super().save_checkpoint(checkpoint, filepath, storage_options)
            return
        path = Path(self.broadcast(filepath))
        tensors, content = shards.split(checkpoint)
        folder = path.with_name(f"{path.name}-{self.broadcast(secrets.token_hex(4))}")
        first = self.global_rank == 0
        with draft(path.with_name(f"{path.name}-shards")) if first else nullcontext() as made:
            part = Path(str(self.broadcast(made)))
            digests = self._write(tensors, part)
            if first:
                part.replace(folder)
        if first:
            content[shards.KEY] = {"folder": folder.name, "digests": digests}
            self.checkpoint_io.save_checkpoint(content, path)
            _remove_others(path, folder)

    def _write(self, tensors: dict[str, Any], folder: Path) -> dict[str, str]:
        """Write the shards of all ranks, and return the digests of their files."""
        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        try:
            save(_apart(tensors), storage_writer=writer)
        except CheckpointException as error:
            raise _as_os_error(error, folder) from None
        mine = self._share(sorted(folder.glob("*.safetensors")))
        for file in mine:
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
        return {k: v for part in self._gathered(digests_of_files(mine)) for k, v in part.items()}

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint into model and optimizers, each rank its own part.

        Raises:
            InputError: if it is damaged or belongs to other weights.
        """
        path = Path(self.broadcast(checkpoint_path))
        content = shards.read_content(path)
        if shards.KEY not in content:
            # The base class takes the weights out, and the method compares their names.
            names = content["state_dict"]
            return {**super().load_checkpoint(path, weights_only=True), "state_dict": names}
        folder = shards.folder_of(path, content)
        self._check(path, content)
        weights = self._read_weights(path, folder)
        for number, plain in enumerate(content.get("optimizer_states", [])[: len(self.optimizers)]):
            self._read_optimizer(number, plain, folder)
        return {**content, "state_dict": weights}

    def _check(self, path: Path, content: Mapping[str, Any]) -> None:
        """Compare the shards with their digests, some on each rank.

        Raises:
            InputError: on all ranks if one finds a fault.
        """
        fault = ""
        try:
            shards.check_files(path, content, slice(self.global_rank, None, self.world_size))
        except InputError as error:
            fault = str(error)
        if faults := [found for found in self._gathered(fault) if found]:
            raise InputError(faults[0])

    def _read_weights(self, path: Path, folder: Path) -> dict[str, Tensor]:
        assert self.model is not None and self.lightning_module is not None
        expected: dict[str, Any] = get_model_state_dict(self.model)
        shapes = {name: weight.shape for name, weight in expected.items()}
        stored = shards.shapes(folder, shards.WEIGHTS)
        misfit = {name for name in stored if shapes.get(name) != stored[name]}
        if self.lightning_module.strict_loading:
            misfit |= shapes.keys() - stored.keys()
        if misfit:
            raise KeyError(f"{path}: {min(misfit)}")  # `explaining_misfit` tells it in full
        weights = {name: expected[name] for name in stored}
        _read({f"{shards.WEIGHTS}{name}": weight for name, weight in weights.items()}, folder)
        set_model_state_dict(self.model, weights, options=StateDictOptions(strict=False))
        return weights

    def _read_optimizer(self, number: int, plain: Mapping[str, Any], folder: Path) -> None:
        assert self.model is not None
        optimizer = self.optimizers[number]
        made: Any = get_optimizer_state_dict(self.model, optimizer)
        tensors, _ = shards.split_optimizer(number, made)
        stored = shards.shapes(folder, f"optimizer/{number}/")
        tensors = {n: t for n, t in tensors.items() if n.split("/", 2)[2] in stored}
        if len(tensors) != len(stored):
            raise InputError(
                f"{folder} holds the optimizer state of other weights: train the same weights as "
                "the config.yaml of that run does."
            )
        _read(tensors, folder)
        set_optimizer_state_dict(
            self.model, optimizer, shards.join_optimizer(number, plain, tensors)
        )

    def _share(self, files: list[Path]) -> list[Path]:
        return files[self.global_rank :: self.world_size]

    def _gathered(self, value: Any) -> list[Any]:
        """Values of all ranks, on each."""
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values


def _apart(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors of which none shares its memory with another, as safetensors are: tied ones twice."""
    apart: dict[str, Any] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        apart[name] = tensor.clone() if local.data_ptr() in seen else tensor
        seen |= {local.data_ptr()} - {0}  # 0 stands for an empty share
    return apart


def _read(tensors: dict[str, Any], folder: Path) -> None:
    """Read tensors of flat names from a folder, in place; of sharded ones the share of the rank."""
    if not tensors:
        return
    try:
        load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)))
    except CheckpointException as error:
        raise InputError(f"{folder} cannot be read: {_cause(error)}") from None


def _as_os_error(error: CheckpointException, path: Path) -> OSError:
    cause = _cause(error)
    number = cause.errno if isinstance(cause, OSError) else None
    return OSError(number, f"a process could not write its shard: {cause}", str(path))


def _cause(error: CheckpointException) -> BaseException:
    """Error of the first process that failed."""
    return next(failure[0] for failure in error.failures.values())


def _remove_others(path: Path, folder: Path) -> None:
    """Remove the folders of earlier checkpoints at a path."""
    for other in path.parent.glob(f"{path.name}-????????"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
