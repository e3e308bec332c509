"""Digests of values, the same wherever and in whatever order they are held."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """A digest of names, types, shapes and values.

    Args:
        tensors: on any device, whole; their order, strides and storage do not matter.

    Returns:
        SHA-256 in hexadecimal.
    """
    found = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        found.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        # A view, so that no second copy of the weights is made.
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def digest_of_file(path: Path) -> str:
    """A digest of a file's bytes; SHA-256 in hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**22):
            found.update(piece)
    return found.hexdigest()


def digest_of_plain(value: Any) -> str:
    """A digest of what JSON can say, whatever the order of its keys; SHA-256 in hexadecimal."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
