"""Parameters of a model, to compare it with another."""

from __future__ import annotations

from torch import nn


def described(model: nn.Module) -> dict[str, tuple[object, ...]]:
    """Shape, type and training of each parameter."""
    named = model.named_parameters()
    return {name: (p.shape, p.dtype, p.requires_grad) for name, p in named}
