"""Batches of images that differ in size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def by_shape(function: Callable[[Tensor], Tensor], items: Tensor | Sequence[Tensor]) -> Tensor:
    """Apply a function of a batch to items of several shapes, one batch for each shape.

    Example:
        Of two images ``[3, 512, 512]`` and one ``[3, 640, 480]`` the function sees
        ``[2, 3, 512, 512]`` and ``[1, 3, 640, 480]``; its three rows come back in order.

    Args:
        function: ``[B, ...] -> [B, D]``.
        items: a batch, or at least one tensor.

    Returns:
        ``[N, D]``.
    """
    if isinstance(items, Tensor):
        return function(items)
    places: dict[torch.Size, list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(item.shape, []).append(place)
    rows = [function(torch.stack([items[place] for place in same])) for same in places.values()]
    order = torch.tensor([place for same in places.values() for place in same])
    return torch.cat(rows)[order.argsort().to(rows[0].device)]
