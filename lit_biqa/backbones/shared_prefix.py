"""Attention from many completions of a prompt to one copy of the prompt's keys and values.

A decoder whose attention is `NAME` attends like sdpa, unless it gets ``prefix=``:

- `Prompts` keeps the keys and values of the prompts that run through the decoder;
- `Continued` lets whole completions attend to them, with gradients;
- `Growing` lets completions that are generated token by token attend to them and to themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

NAME = "shared_prefix"


class Prefix(Protocol):
    """Keys and values that attention uses beside those of the rows in the call."""

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        **options: Any,
    ) -> Tensor:
        """Compute attention.

        Args:
            module: the calling attention; its ``layer_idx`` is the layer.
            query: ``[R, heads, L, d]``.
            key: ``[R, heads_kv, L, d]``; ``heads`` is a multiple of ``heads_kv``.
            value: ``[R, heads_kv, L, d]``.
            mask: attention mask of the decoder.
            options: options of transformers' attention functions, ``scaling`` among them.

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
    """Attention function for transformers: sdpa, with a prefix if one is given."""
    if prefix is None:
        return _sdpa(module, query, key, value, attention_mask, **options), None
    return prefix.attend(module, query, key, value, attention_mask, **options), None


def set_attention(model: Any) -> None:
    """Set the attention of a transformers model to `attention`."""
    # Importing transformers takes seconds, and only an existing model needs it.
    from lit_biqa.compat.transformers import (
        AttentionInterface,
        AttentionMaskInterface,
        sdpa_mask,
    )

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


class Prompts:
    """Keys and values of P prompts in every layer, kept while they run through the decoder.

    Args:
        mask: ``[P, Lp]``, true at tokens, false at the padding on the left.

    Attributes:
        keys: for each layer ``[P, heads_kv, Lp, d]``, with gradients.
        values: for each layer ``[P, heads_kv, Lp, d]``.
        mask: the given mask, or ``None`` without padding.
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
        # Gradient checkpointing runs a layer twice; the tensors of the first run are in the graph.
        if len(self.keys) == _layer(module):
            self.keys.append(key)
            self.values.append(value)
        return _sdpa(module, query, key, value, mask, **options)

    def with_states(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Prompts:
        """The same prompts with other tensors as keys and values."""
        other = object.__new__(Prompts)
        other.keys, other.values, other.mask = list(keys), list(values), self.mask
        return other


class Continued:
    """Whole completions: each token attends to its prompt and to earlier tokens.

    Args:
        prompts: prompts that have run.
        owner: index of the prompt of each of R completions, ``[R]``.
        length: number of tokens of each completion, padding on the right included.
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
        """See `Prefix`; the decoder's own mask is not used."""
        layer = _layer(module)
        key = torch.cat([self.prompts.keys[layer][self.owner], key], 2)
        value = torch.cat([self.prompts.values[layer][self.owner], value], 2)
        return _sdpa(module, query, key, value, self.mask, **options)


class Growing:
    """Completions during generation, G for each prompt, one token per call.

    The G queries of a prompt are folded into one batch, so that the prompt's keys and values are
    read once and never repeated. Memory for the completions' keys and values is allocated for all
    tokens in advance. The prompts' keys are stored transposed: products with few queries are nearly
    twice as fast on a CPU.

    Args:
        prompts: prompts that have run; their keys and values are moved out of them.
        copies: G.
        budget: most tokens per completion.
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
        """Keep only some rows.

        Args:
            prompts: indices of the prompts that stay, ``[P']``.
            copies: indices of the completions of each that stay, ``[P', G']``.
        """
        at = prompts[:, None]
        for states in (self.keys, self.values):
            for layer, state in enumerate(states):
                # Separated index arrays put their axes first: [P', G', heads_kv, ...].
                states[layer] = state[at, :, copies].transpose(1, 2).contiguous()
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
        """See `Prefix`; masks only the padding of prompts, and takes no gradient."""
        layer, width = _layer(module), query.shape[-1]
        if layer == 0:
            self.length += 1
        own_keys, own_values = self._grown(layer, key, value)
        far_keys, far_values = (
            states[layer].flatten(0, 1) for states in (self.prompt_keys, self.prompt_values)
        )
        (count, heads, copies), before = self.shape, far_values.shape[1]
        # [P * heads_kv, G * queries per key, d], and the same as P * heads_kv * G.
        folded = query.view(count, copies, heads, -1, width).transpose(1, 2)
        # A single prompt may give a view, which cannot be split further.
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
        """Append new keys and values, ``[P * G, heads_kv, 1, d]`` each, and return all so far.

        Both are ``[P * heads_kv * G, t, d]``.
        """
        count, heads, copies = self.shape
        keys, values = self.keys[layer], self.values[layer]
        for stored, new in ((keys, key), (values, value)):
            stored[:, :, :, self.length - 1] = new.view(count, copies, heads, -1).transpose(1, 2)
        return keys.flatten(0, 2)[:, : self.length], values.flatten(0, 2)[:, : self.length]


def _taken(states: list[Tensor]) -> Tensor:
    """Remove and return the first of a list, so that memory does not hold it and its copy."""
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
