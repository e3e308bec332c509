"""Attention as transformers dispatches it, shared by tower, abstractor and decoder."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_biqa.compat.transformers import ALL_ATTENTION_FUNCTIONS


def split_heads(states: Tensor, heads: int) -> Tensor:
    """``[B, L, D]`` to ``[B, heads, L, D / heads]``."""
    return states.view(*states.shape[:-1], heads, -1).transpose(1, 2)


def attend(
    module: nn.Module,
    implementation: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    **more: Any,
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention by the implementation that the model was set to.

    Args:
        module: the calling module; its ``is_causal`` says whether ``mask=None`` means causal.
        implementation: ``sdpa`` or ``eager``, from the configuration.
        query: ``[B, heads, L, d]``.
        key: ``[B, heads, S, d]``.
        value: ``[B, heads, S, d]``.
        mask: what transformers' mask functions made for this implementation.
        more: what the implementation takes beside, such as a shared ``prefix``.

    Returns:
        The mixed values ``[B, L, heads * d]``, and the weights ``[B, heads, L, S]`` if eager.
    """
    function = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, _eager)
    scale = query.shape[-1] ** -0.5
    mixed, weights = function(module, query, key, value, mask, scaling=scale, dropout=0.0, **more)
    return mixed.flatten(2), weights


def _eager(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    dropout: float,
    **unused: Any,
) -> tuple[Tensor, Tensor]:
    """Attention written out, for its weights; the signature is that of transformers' functions."""
    scores = query @ key.transpose(-1, -2) * scaling
    if mask is not None:
        scores = scores + mask
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2), weights
