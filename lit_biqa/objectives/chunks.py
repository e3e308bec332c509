"""Logits of a few tokens at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def in_autocast(hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states and the head's weight in the type that autocast asks for, if it is on.

    Args:
        hidden: ``[N, D]``.
        weight: ``[C, D]``.
    """
    device = hidden.device.type
    if not torch.is_autocast_enabled(device):
        return hidden, weight
    dtype = torch.get_autocast_dtype(device)
    return hidden.to(dtype), weight.to(dtype)


def tokens_at_once(weight: Tensor, logits_at_once: int) -> int:
    """Tokens whose logits are held at a time, at least one.

    With a vocabulary of 1,000 and 4,500 logits: 4.

    Args:
        weight: of the head, ``[C, D]``.
        logits_at_once: most logits, tokens times vocabulary.
    """
    return max(1, logits_at_once // len(weight))
