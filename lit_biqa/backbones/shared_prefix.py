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


def set_attention(model: Any) -> None:
    """Set the attention of a model of transformers to `attention`."""
    # Only a model that is there needs transformers, which takes seconds to import.
    from lit_biqa.compat.transformers import (
        AttentionInterface,
        AttentionMaskInterface,
        sdpa_mask,
    )

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


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
    The prompts' keys lie transposed: products with few queries are nearly twice as fast on a CPU.

    Args:
        prompts: that have run; their keys and values are taken away from them.
        copies: G.
        budget: tokens that each completion may take.
    """

    def __init__(self, prompts: Prompts, copies: int, budget: int) -> None:
        self.length = 0
        self.nothing = prompts.keys[0].new_zeros(1, 1, 1)
        count, heads, before, width = prompts.keys[0].shape
        self.shape = (count, heads, copies)
        empty, depth = prompts.keys[0].new_empty, len(prompts.keys)
        self.keys, self.values = (
            [empty(*self.shape, budget, width) for _ in range(depth)] for _ in range(2)
        )
        self.prompt_keys = [_taken(prompts.keys).transpose(2, 3).contiguous() for _ in self.keys]
        self.prompt_values = [_taken(prompts.values).contiguous() for _ in self.keys]
        self.bias = empty(count, heads, 1, before).zero_()
        if prompts.mask is not None:
            self.bias.masked_fill_(~prompts.mask[:, None, None], -torch.inf)

    def keep(self, prompts: Tensor, copies: Tensor) -> None:
        """Go on with some rows alone.

        Args:
            prompts: which of the P prompts, ``[P']``.
            copies: for each of them which of its G completions, ``[P', G']``.
        """
        at = prompts[:, None]
        for own in (self.keys, self.values):
            for layer, state in enumerate(own):
                # Indices apart from each other go to the front: [P', G', heads_kv, ...].
                own[layer] = state[at, :, copies].transpose(1, 2).contiguous()
        if len(prompts) < self.shape[0]:
            self.prompt_keys = [state[prompts] for state in self.prompt_keys]
            self.prompt_values = [state[prompts] for state in self.prompt_values]
            self.bias = self.bias[prompts]
        self.shape = (len(prompts), self.shape[1], copies.shape[1])

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
        layer, width = _layer(module), query.shape[-1]
        if layer == 0:
            self.length += 1
        own_keys, own_values = self._grown(layer, key, value)
        far_keys, far_values = (
            states[layer].flatten(0, 1) for states in (self.prompt_keys, self.prompt_values)
        )
        (count, heads, copies), before = self.shape, far_values.shape[1]
        # [P * heads_kv, G * queries of one key, d], and the same seen as P * heads_kv * G.
        folded = query.view(count, copies, heads, -1, width).transpose(1, 2)
        # One prompt alone may come out as a view, which cannot be seen apart.
        folded = folded.reshape(count * heads, -1, width).contiguous()
        apart = folded.view(count * heads * copies, -1, width)
        far = torch.baddbmm(self.bias.flatten(0, 1), folded, far_keys, alpha=scaling)
        near = torch.baddbmm(self.nothing, apart, own_keys.transpose(1, 2), beta=0, alpha=scaling)
        scores = torch.cat([far.view(*near.shape[:2], before), near], 2)
        weights = scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
        far = weights[..., :before].reshape(far.shape) @ far_values
        mixed = torch.baddbmm(far.view(apart.shape), weights[..., before:], own_values)
        mixed = mixed.view(count, heads, copies, -1, width).transpose(1, 2)
        return mixed.reshape(count * copies, 1, -1, width)

    def _grown(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write what is new, ``[P * G, heads_kv, 1, d]`` each, and give all so far.

        Keys and values ``[P * heads_kv * G, t, d]``.
        """
        count, heads, copies = self.shape
        keys, values = self.keys[layer], self.values[layer]
        for kept, new in ((keys, key), (values, value)):
            kept[:, :, :, self.length - 1] = new.view(count, copies, heads, -1).transpose(1, 2)
        return keys.flatten(0, 2)[:, : self.length], values.flatten(0, 2)[:, : self.length]


def _taken(states: list[Tensor]) -> Tensor:
    """The first of a list, which is then shorter: what is copied need not lie in memory twice."""
    return states.pop(0)


def _sdpa(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    **options: Any,
) -> Tensor:
    from lit_biqa.compat.transformers import sdpa_attention_forward

    mixed: Tensor = sdpa_attention_forward(module, query, key, value, mask, **options)[0]
    return mixed


def _layer(module: nn.Module) -> int:
    layer = module.layer_idx
    assert isinstance(layer, int)
    return layer
