"""SHA-256 digests of values, independent of device, order and storage; and of files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # Digests of files are taken without torch.
    from torch import Tensor

#: File in a folder of weights that holds the digests of its files, as a JSON object by name.
DIGESTS = "digests.json"


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Digest of the names, types, shapes and values of tensors.

    Args:
        tensors: whole (not sharded), on any device; order, strides and storage do not matter.

    Returns:
        SHA-256 in hexadecimal.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        # A view, so that no second copy of the weights is made.
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def digest_of_file(path: Path) -> str:
    """Digest of a file's bytes; SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**22):
            digest.update(piece)
    return digest.hexdigest()


def digests_of_files(files: Iterable[Path]) -> dict[str, str]:
    """Digests of files by file name; several are read at a time, since they have gigabytes."""
    paths = sorted(files)
    with ThreadPoolExecutor(4) as pool:
        digests = pool.map(digest_of_file, paths)
        return dict(zip((path.name for path in paths), digests, strict=True))


def digest_of_plain(value: Any) -> str:
    """Digest of a JSON value, independent of the order of its keys; SHA-256 in hexadecimal."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
