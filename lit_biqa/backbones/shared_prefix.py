"""Attention from many completions of a prompt to one copy of the prompt's keys and values.

A decoder whose attention is set to `NAME` attends as sdpa does, unless it is given ``prefix=``:

- `Prompts` keeps the keys and values of the prompts that run through the decoder;
- `Continued` lets completions, whole and with gradients, attend to them;
- `Growing` lets completions that are written token by token attend to them and to themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "shared_prefix"


class Prefix(Protocol):
    """What a decoder's attention is given to attend to, beside the rows that run through it."""

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        **options: Any,
    ) -> Tensor:
        """Mix values.

        Args:
            module: the calling attention; its ``layer_idx`` names the layer.
            query: ``[R, heads, L, d]``.
            key: ``[R, heads_kv, L, d]``; `heads` is a multiple of it.
            value: likewise.
            mask: what the decoder made of its own mask.
            options: of transformers' attention functions, ``scaling`` among them.

        Returns:
            ``[R, L, heads, d]``.
        """


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    prefix: Prefix | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """One of transformers' attention functions: sdpa, with a prefix where there is one."""
    if prefix is None:
        return _sdpa(module, query, key, value, attention_mask, **options), None
    return prefix.attend(module, query, key, value, attention_mask, **options), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


class Prompts:
    """Keys and values of P prompts in every layer, kept as they run through the decoder.

    Args:
        mask: ``[P, Lp]``, true at tokens, false at the padding on the left.

    Attributes:
        keys: for each layer ``[P, heads_kv, Lp, d]``, with their gradients.
        values: likewise.
        mask: as given, or ``None`` where nothing is padded.
    """

    def __init__(self, mask: Tensor) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.mask = None if bool(mask.all()) else mask

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        **options: Any,
    ) -> Tensor:
        """See `Prefix`."""
        # Gradient checkpointing runs a layer again; what it made first is part of the graph.
        if len(self.keys) == _layer(module):
            self.keys.append(key)
            self.values.append(value)
        return _sdpa(module, query, key, value, mask, **options)

    def with_states(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Prompts:
        """The same prompts with other tensors for their keys and values."""
        other = object.__new__(Prompts)
        other.keys, other.values, other.mask = list(keys), list(values), self.mask
        return other


class Continued:
    """Completions that are known as a whole: each sees its prompt and its own past.

    Args:
        prompts: that have run.
        owner: for each of R completions the index of its prompt, ``[R]``.
        length: tokens of each completion, padding on the right included.
    """

    def __init__(self, prompts: Prompts, owner: Tensor, length: int) -> None:
        self.prompts, self.owner = prompts, owner
        before = prompts.keys[0].shape[2]
        causal = torch.ones(length, before + length, dtype=torch.bool, device=owner.device)
        mask = causal.tril_(before)[None, None]
        if prompts.mask is not None:
            seen = nn.functional.pad(prompts.mask[owner], (0, length), value=True)
            mask = mask & seen[:, None, None]
        self.mask = mask

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        **options: Any,
    ) -> Tensor:
        """See `Prefix`; the decoder's own mask is of no use."""
        layer = _layer(module)
        key = torch.cat([self.prompts.keys[layer][self.owner], key], 2)
        value = torch.cat([self.prompts.values[layer][self.owner], value], 2)
        return _sdpa(module, query, key, value, self.mask, **options)


class Growing:
    """Completions that are being written, G for each prompt, one token in each call.

    The G queries of a prompt are folded into one, so that the prompt's keys and values are read
    once and never repeated. Those of the completions stand in memory set aside for all tokens.

    Args:
        prompts: that have run.
        copies: G.
        budget: tokens that each completion may take.
    """

    def __init__(self, prompts: Prompts, copies: int, budget: int) -> None:
        self.budget, self.length = budget, 0
        self.before = list(zip(prompts.keys, prompts.values, strict=True))
        count, heads, _, width = prompts.keys[0].shape
        empty = prompts.keys[0].new_empty
        shape = (count, heads, copies, budget, width)
        self.own = [(empty(shape), empty(shape)) for _ in self.before]
        self.bias: Tensor | None = None
        if prompts.mask is not None:
            hidden = torch.zeros_like(prompts.mask, dtype=empty(0).dtype)
            self.bias = hidden.masked_fill_(~prompts.mask, -torch.inf)[:, None, None]

    def keep(self, prompts: Tensor, copies: Tensor) -> None:
        """Go on with some rows alone.

        Args:
            prompts: which of the P prompts, ``[P']``.
            copies: for each of them which of its G completions, ``[P', G']``.
        """
        whole = len(prompts) == len(self.before[0][0])
        at = prompts[:, None]
        for layer, (key, value) in enumerate(self.own):
            # Advanced indices apart from each other go to the front: [P', G', heads, T, d].
            kept = (state[at, :, copies].transpose(1, 2).contiguous() for state in (key, value))
            self.own[layer] = (next(kept), next(kept))
            if not whole:
                before = self.before[layer]
                self.before[layer] = (before[0][prompts], before[1][prompts])
        if self.bias is not None:
            self.bias = self.bias[prompts]

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scaling: float,
        **options: Any,
    ) -> Tensor:
        """See `Prefix`; nothing is masked but the padding of prompts. No gradient is taken."""
        layer = _layer(module)
        if layer == 0:
            self.length += 1
        own_key = self._grown(self.own[layer][0], key)
        own_value = self._grown(self.own[layer][1], value)
        prompt_key, prompt_value = (state.flatten(0, 1) for state in self.before[layer])
        (count, heads, copies), length = self.own[layer][0].shape[:3], prompt_key.shape[1]
        # [P * heads_kv, G * queries of one key, d], and the same seen as P * heads_kv * G.
        folded = query.view(count, copies, heads, -1, query.shape[-1]).transpose(1, 2) * scaling
        folded = folded.reshape(count * heads, -1, query.shape[-1])
        apart = folded.reshape(count * heads * copies, -1, query.shape[-1])
        near = apart @ own_key.transpose(1, 2)
        far = self._scores(folded, prompt_key).reshape(*near.shape[:2], length)
        scores = torch.cat([far, near], 2)
        weights = scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
        far = weights[..., :length].reshape(*folded.shape[:2], length) @ prompt_value
        mixed = far.view_as(apart) + weights[..., length:] @ own_value
        mixed = mixed.view(count, heads, copies, -1, query.shape[-1]).transpose(1, 2)
        return mixed.reshape(count * copies, 1, -1, query.shape[-1])

    def _grown(self, kept: Tensor, new: Tensor) -> Tensor:
        """Write the newest ``[P * G, heads_kv, 1, d]``; all so far ``[P * heads_kv * G, t, d]``."""
        count, heads, copies, _, width = kept.shape
        new = new.view(count, copies, heads, width).transpose(1, 2)
        kept[:, :, :, self.length - 1] = new
        return kept.flatten(0, 2)[:, : self.length]

    def _scores(self, folded: Tensor, key: Tensor) -> Tensor:
        scores = folded @ key.transpose(1, 2)
        if self.bias is None:
            return scores
        count = len(self.bias)
        return (scores.view(count, -1, scores.shape[-1]) + self.bias[:, 0]).view_as(scores)


def _sdpa(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    **options: Any,
) -> Tensor:
    mixed: Tensor = sdpa_attention_forward(module, query, key, value, mask, **options)[0]
    return mixed


def _layer(module: nn.Module) -> int:
    layer = module.layer_idx
    assert isinstance(layer, int)
    return layer
