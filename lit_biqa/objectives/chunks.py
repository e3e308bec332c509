"""Logits of a few tokens at a time, in the precision of products."""

from __future__ import annotations

import torch
from torch import Tensor

#: Most logits that a loss holds at a time, tokens times vocabulary.
LOGITS_AT_ONCE = 2**24


def in_autocast(factor: Tensor) -> Tensor:
    """Factor of a product in the type that autocast asks for, if it is on."""
    device = factor.device.type
    if not torch.is_autocast_enabled(device):
        return factor
    return factor.to(torch.get_autocast_dtype(device))


def tokens_at_once(weight: Tensor, logits_at_once: int) -> int:
    """Tokens whose logits are held at a time, at least one.

    With a vocabulary of 1,000 and 4,500 logits: 4.

    Args:
        weight: of the head, ``[C, D]``.
        logits_at_once: most logits, tokens times vocabulary.
    """
    return max(1, logits_at_once // len(weight))
