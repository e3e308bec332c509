"""Identity of the weights behind a score, and their number of training steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

import lightning.pytorch as pl
import torch
from torch import Tensor

from lit_biqa.evaluation.report import UNKNOWN
from lit_biqa.io.digests import digest_of

SHORT = 12
"""Characters of a digest in a table: 48 bits distinguish millions of weights."""


@runtime_checkable
class Sourced(Protocol):
    """Module whose scores do not come from weights.

    Attributes:
        source: digest of the source of its scores.
    """

    source: str


@runtime_checkable
class Trained(Protocol):
    """Module that knows the number of training steps of its loaded weights.

    Attributes:
        trained_steps: number of optimizer steps.
    """

    trained_steps: int


def steps_of(module: pl.LightningModule, trainer: pl.Trainer) -> int:
    """Number of optimizer steps of a module's weights; the trainer's if the module has none."""
    return module.trained_steps if isinstance(module, Trained) else trainer.global_step


def weights_of(module: pl.LightningModule) -> str:
    """Short digest of a module's current weights; every rank must call it.

    A module without weights has the digest of its source, or `UNKNOWN` without one.
    """
    if isinstance(module, Sourced):
        return module.source[:SHORT]
    state = _Whole(module.state_dict())
    return digest_of(state)[:SHORT] if len(state) else UNKNOWN


class _Whole(Mapping[str, Tensor]):
    """Tensors of a state, each gathered from all ranks when it is read."""

    def __init__(self, state: Mapping[str, object]) -> None:
        self.state = {name: value for name, value in state.items() if isinstance(value, Tensor)}

    def __getitem__(self, name: str) -> Tensor:
        from torch.distributed.tensor import DTensor

        value = self.state[name].detach()
        # Packed weights are a tensor subclass that packs again when moved.
        plain: Tensor = (
            value.full_tensor() if isinstance(value, DTensor) else value.as_subclass(torch.Tensor)
        )
        return plain

    def __iter__(self) -> Iterator[str]:
        return iter(self.state)

    def __len__(self) -> int:
        return len(self.state)
