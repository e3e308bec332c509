"""Bytes of live tensors, counted as operators make them and as they are freed."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.weak import WeakIdKeyDictionary


class LiveTensors(TorchDispatchMode):
    """Context that counts the bytes of all storages that operators return.

    Unlike `Allocated` it also sees storages that FSDP2 frees and fills again. It sees no memory
    that an operator takes and frees by itself.

    Attributes:
        total: bytes that are live now.
        peak: most bytes so far; a caller may set it to `total` to begin anew.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = self.peak = 0
        self._sizes: Any = WeakIdKeyDictionary()

    def __enter__(self) -> Self:
        self._resize: Callable[..., Any] = torch.UntypedStorage.resize_
        resize, sizes = self._resize, self._sizes

        def resized(storage: Any, size: int) -> Any:
            done = resize(storage, size)
            if storage in sizes:
                self._set(sizes[storage], storage.nbytes())
            return done

        torch.UntypedStorage.resize_ = resized  # type: ignore[method-assign,assignment]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        torch.UntypedStorage.resize_ = self._resize  # type: ignore[method-assign]
        super().__exit__(*raised)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count the storages of its results."""
        if any(kind is DTensor for kind in types):
            return NotImplemented
        results = func(*args, **(kwargs or {}))
        for result in tree_iter(results):
            if isinstance(result, Tensor) and type(result) in (Tensor, torch.nn.Parameter):
                self._see(result)
        return results

    def _see(self, tensor: Tensor) -> None:
        if tensor.device.type == "meta":
            return
        storage = tensor.untyped_storage()
        if storage not in self._sizes:
            size = self._sizes[storage] = [0]
            weakref.finalize(storage, self._set, size, 0)
            self._set(size, storage.nbytes())

    def _set(self, size: list[int], new: int) -> None:
        self.total += new - size[0]
        self.peak = max(self.peak, self.total)
        size[0] = new
