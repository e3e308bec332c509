"""Weights that stay in their files until each rank reads its share of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

_FLOATING = ("F64", "F32", "BF16", "F16")
_taker: ContextVar[Unread | None] = ContextVar("taker", default=None)


@dataclass(frozen=True, eq=False)
class Stored:
    """A weight in a file of safetensors.

    Attributes:
        file: the open file.
        name: name of the weight in it.
    """

    file: Any
    name: str

    def rows(self, first: int, count: int) -> Tensor:
        """Rows of the weight from ``first`` on, as they are stored."""
        rows: Tensor = self.file.get_slice(self.name)[first : first + count]
        return rows

    def whole(self) -> Tensor:
        """Whole weight, as it is stored."""
        tensor: Tensor = self.file.get_tensor(self.name)
        return tensor

    def placeholder(self, dtype: torch.dtype) -> Tensor:
        """Tensor of its shape without memory or meaning; counters are read."""
        told = self.file.get_slice(self.name)
        if told.get_dtype() not in _FLOATING:
            return self.whole()
        return torch.zeros((), dtype=dtype).expand(told.get_shape())


class Unread:
    """Weights of a model that are in files, and are read by the row once it is sharded.

    Until then placeholders stand in the model: of the same shape, in the precision of training,
    without memory and without meaning.
    """

    def __init__(self) -> None:
        self._stored: dict[nn.Parameter, Stored] = {}

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Context in which `read_weights` leaves weights in their files; `sharding` must follow."""
        token = _taker.set(self)
        try:
            yield
        finally:
            _taker.reset(token)

    @staticmethod
    def taker() -> Unread | None:
        """Who takes the weights that are being read; ``None`` outside of `taking`."""
        return _taker.get()

    def leave(self, weights: Mapping[nn.Parameter, Stored]) -> None:
        """Leave weights in their files.

        Args:
            weights: by the placeholder that stands in the model.
        """
        self._stored |= weights

    def shared(self) -> dict[int, Any]:
        """Memo for `deepcopy` of the module that holds this: the copy reads the same files.

        Without it, a copy would give memory to the placeholders.
        """
        memo: dict[int, Any] = {}
        for placeholder, stored in self._stored.items():
            memo[id(placeholder)] = nn.Parameter(placeholder.detach(), requires_grad=False)
            memo[id(stored)] = stored
        return memo

    @contextmanager
    def sharding(self, model: nn.Module, mesh: DeviceMesh) -> Iterator[None]:
        """Context in which the module is sharded, without memory; at its end the rows are read.

        Args:
            model: module with the placeholders.
            mesh: device mesh of one dimension, over which the context shards it.
        """
        places = [
            (module, name, self._stored[weight])
            for module in model.modules()
            for name, weight in module.named_parameters(recurse=False)
            if weight in self._stored
        ]
        _replace(model, lambda weight: _on_meta(weight) if weight in self._stored else weight)
        self._stored.clear()
        yield
        real: Any = model
        real._apply(lambda w: torch.empty_like(w, device=mesh.device_type) if w.is_meta else w)
        with torch.no_grad():
            for module, name, stored in places:
                _fill(getattr(module, name), stored, mesh)


def _on_meta(weight: nn.Parameter) -> nn.Parameter:
    empty = torch.empty(weight.shape, dtype=weight.dtype, device="meta")
    return nn.Parameter(empty, requires_grad=weight.requires_grad)


def _fill(weight: Tensor, stored: Stored, mesh: DeviceMesh) -> None:
    """Copy into a weight what it holds of the stored one: of a share, its rows.

    FSDP2 cuts rows as `torch.chunk` does: the last ranks may have fewer, or none.
    """
    if not isinstance(weight, DTensor):
        weight.copy_(stored.whole())
        return
    local = weight.to_local()
    if len(local):
        first = -(-weight.shape[0] // mesh.size()) * mesh.get_local_rank()
        local.copy_(stored.rows(first, len(local)))


def _replace(model: nn.Module, make: Callable[[nn.Parameter], nn.Parameter]) -> None:
    """Replace each parameter of a model wherever it stands."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight not in made:
                made[weight] = make(weight)
            setattr(module, name, made[weight])
