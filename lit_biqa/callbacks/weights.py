"""Which weights gave a score, and after how many steps of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

import lightning.pytorch as pl
import torch
from torch import Tensor

from lit_biqa.evaluation.report import UNKNOWN
from lit_biqa.io.digests import digest_of

SHORT = 12
"""Letters of a digest that a table shows: 48 bits tell millions of weights apart."""


@runtime_checkable
class Sourced(Protocol):
    """What takes its scores from elsewhere than weights.

    Attributes:
        source: digest of what they are taken from.
    """

    source: str


@runtime_checkable
class Trained(Protocol):
    """What knows how long the weights were trained that it has loaded.

    Attributes:
        trained_steps: optimizer steps behind them.
    """

    trained_steps: int


def steps_of(module: pl.LightningModule, trainer: pl.Trainer) -> int:
    """Optimizer steps behind the weights of a module; those of the trainer if it does not tell."""
    return module.trained_steps if isinstance(module, Trained) else trainer.global_step


def weights_of(module: pl.LightningModule) -> str:
    """A short digest of the weights of a module, as they are now; every rank must take part.

    A module without weights has that of its source, or `UNKNOWN` where it does not tell one.
    """
    if isinstance(module, Sourced):
        return module.source[:SHORT]
    state = _Whole(module.state_dict())
    return digest_of(state)[:SHORT] if len(state) else UNKNOWN


class _Whole(Mapping[str, Tensor]):
    """The tensors of a state, each gathered from all ranks when it is asked for."""

    def __init__(self, state: Mapping[str, object]) -> None:
        self.state = {name: value for name, value in state.items() if isinstance(value, Tensor)}

    def __getitem__(self, name: str) -> Tensor:
        from torch.distributed.tensor import DTensor

        value = self.state[name].detach()
        # Packed weights are tensors of a kind of their own, which packs anew when it is moved.
        plain: Tensor = (
            value.full_tensor() if isinstance(value, DTensor) else value.as_subclass(torch.Tensor)
        )
        return plain

    def __iter__(self) -> Iterator[str]:
        return iter(self.state)

    def __len__(self) -> int:
        return len(self.state)
