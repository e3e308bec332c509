"""Shards of a checkpoint: safetensors files in a folder beside the checkpoint file.

The file holds all that is no tensor of weights or optimizer, the name of the folder, and the
digests of the files in it. Shards are read without unpickling; torch's own format of sharded
checkpoints is not read at all.

Example: ``last.ckpt`` and ``last.ckpt-3fa91c07/``, of which the next checkpoint removes the folder.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Size, Tensor, empty, load

from lit_biqa.io.archives import check_archive
from lit_biqa.io.digests import digests_of_files
from lit_biqa.types import InputError

KEY = "shards"  # of the entry in the checkpoint file
WEIGHTS = "state_dict/"
_FIELDS = ("folder", "digests")


def read_content(path: Path) -> dict[str, Any]:
    """Content of a checkpoint file without that of its shards; weights stay in the file.

    Raises:
        InputError: if the file is damaged, or is a folder.
    """
    check_archive(path)
    content: dict[str, Any] = load(path, map_location="cpu", weights_only=True, mmap=True)
    return content


def split(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Separate the tensors of weights and optimizers from the rest of a checkpoint.

    Returns:
        The tensors under flat names, such as ``state_dict/encoder.weight`` and
        ``optimizer/0/encoder.weight/exp_avg``; and the rest, in the form of a checkpoint.
    """
    tensors = {f"{WEIGHTS}{name}": weight for name, weight in checkpoint["state_dict"].items()}
    rest = {**checkpoint, "state_dict": {}}
    if "optimizer_states" in checkpoint:
        rest["optimizer_states"] = []
        for number, optimizer in enumerate(checkpoint["optimizer_states"]):
            flat, plain = split_optimizer(number, optimizer)
            tensors |= flat
            rest["optimizer_states"].append(plain)
    return tensors, rest


def split_optimizer(
    number: int, state: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The same for the state of one optimizer, whose weights are known by name."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for weight, entries in state["state"].items():
        plain[weight] = {}
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{number}/{weight}/{name}"] = value
            else:
                plain[weight][name] = value
    return tensors, {**state, "state": plain}


def join_optimizer(
    number: int, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Inverse of `split_optimizer`."""
    state = {weight: dict(entries) for weight, entries in plain["state"].items()}
    for flat, value in tensors.items():
        if flat.startswith(f"optimizer/{number}/"):
            _, _, weight, name = flat.split("/")
            state[weight][name] = value
    return {**plain, "state": state}


def folder_of(path: Path, content: Mapping[str, Any]) -> Path:
    """Folder with the shards of a checkpoint file.

    Raises:
        InputError: if it is absent, or if the file names no folder beside itself.
    """
    told = content[KEY]
    if not isinstance(told, dict) or any(field not in told for field in _FIELDS):
        raise InputError(f"{path} is no checkpoint of this version: take another of the run.")
    folder = path.with_name(Path(str(told["folder"])).name)
    if not folder.is_dir():
        raise InputError(
            f"{path} is one part of a checkpoint, whose shards are in {folder.name} beside it: "
            "copy this folder too."
        )
    return folder


def check_files(path: Path, content: Mapping[str, Any], share: slice = slice(None)) -> None:
    """Compare shards with their digests.

    Args:
        path: the checkpoint file.
        content: its content.
        share: files of this process, in the order of names.

    Raises:
        InputError: if a shard is absent or damaged.
    """
    folder, digests = folder_of(path, content), content[KEY]["digests"]
    names = sorted(digests)[share]
    absent = [name for name in names if not (folder / name).is_file()]
    found = digests_of_files(folder / name for name in names if name not in absent)
    damaged = absent + [name for name in found if found[name] != digests[name]]
    if damaged:
        raise InputError(
            f"{folder / damaged[0]} is damaged or absent: its content differs from the digest it "
            "was written with. Copy the folder again, or take another checkpoint of the run."
        )


def shapes(folder: Path, prefix: str = "") -> dict[str, Size]:
    """Whole shapes of the tensors in a folder, by their flat names without the prefix."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    told = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    sizes = {name: getattr(tensor, "size", Size()) for name, tensor in told.items()}
    return {name.removeprefix(prefix): s for name, s in sizes.items() if name.startswith(prefix)}


def read_whole(folder: Path, prefix: str = "") -> dict[str, Tensor]:
    """Whole tensors of a folder on the CPU, by their flat names without the prefix."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load as load_shards

    reader = HuggingFaceStorageReader(str(folder))
    found: dict[str, Any] = reader.read_metadata().state_dict_metadata
    state: dict[str, Any] = {
        name: empty(tensor.size, dtype=tensor.properties.dtype)
        for name, tensor in found.items()
        if name.startswith(prefix)
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load_shards(state, storage_reader=reader, no_dist=True)
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def whole(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Content of a checkpoint with the tensors of its shards, for strategies without shards.

    Args:
        path: the checkpoint file.
        content: its content; returned as it is if it has no shards.

    Raises:
        InputError: if a shard is absent or damaged.
    """
    if KEY not in content:
        return content
    check_files(path, content)
    tensors = read_whole(folder_of(path, content))
    weights = {n.removeprefix(WEIGHTS): t for n, t in tensors.items() if n.startswith(WEIGHTS)}
    joined = {name: value for name, value in content.items() if name != KEY}
    joined["state_dict"] = weights
    if "optimizer_states" in content:
        joined["optimizer_states"] = [
            _numbered(join_optimizer(number, plain, tensors))
            for number, plain in enumerate(content["optimizer_states"])
        ]
    return joined


def _numbered(state: dict[str, Any]) -> dict[str, Any]:
    """State of an optimizer with numbers for weights, as torch's optimizers have it, for names."""
    groups = state["param_groups"]
    numbers = {name: n for n, name in enumerate(name for g in groups for name in g["params"])}
    return {
        "state": {numbers[name]: entries for name, entries in state["state"].items()},
        "param_groups": [{**g, "params": [numbers[name] for name in g["params"]]} for g in groups],
    }
