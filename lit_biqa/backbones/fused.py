"""Decoder for one token per row, with fewer and larger matrix products.

When a step reads all weights for only a few rows, the overhead around the products costs as much as
the products. Products of the same input are therefore one product, LoRA's updates are added to the
weights, and operations that a text row does not need are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_biqa.backbones.shared_prefix import Growing
from lit_biqa.objectives.chunks import in_autocast

# Types of decoders, by their configurations, whose step the tests compare with transformers'.
LLAMA_KINDS = (
    *("llama", "mplug_owl2", "qwen2"),
    *("qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text"),
)


@dataclass(frozen=True, eq=False)
class _Layer:
    """Weights of one layer; keys and values have fewer heads than queries.

    Attributes:
        attention: attention module of the layer, which identifies the layer in the cache.
        activation: activation of the gate.
        before: weight of the norm before the attention.
        qkv: weight and bias of queries, keys and values, stacked.
        heads: weights of the norms of queries and keys, ``[heads, d]``; ``None`` without norms.
        out: weight and bias of the output projection.
        between: weight of the norm before the feed-forward part.
        gate_up: weight and bias of gate and up projection, stacked.
        down: weight and bias of the down projection.
    """

    attention: Any
    activation: nn.Module
    before: Tensor
    qkv: tuple[Tensor, Tensor | None]
    heads: Tensor | None
    out: tuple[Tensor, Tensor | None]
    between: Tensor
    gate_up: tuple[Tensor, Tensor | None]
    down: tuple[Tensor, Tensor | None]


class FusedDecoder:
    """Decoder of Llama's layout (`LLAMA_KINDS`) on rows of one text token.

    It holds copies of most weights, with LoRA's updates merged in float32, in the precision of
    autocast if that is on: make one for each rollout, and release it afterwards.

    Args:
        decoder: decoder of transformers that `can_fuse`, with whole weights.
    """

    def __init__(self, decoder: Any) -> None:
        self.words, self.rotary = decoder.embed_tokens, decoder.rotary_emb
        self.norm, self.epsilon = decoder.norm.weight, decoder.norm.variance_epsilon
        self.floor = torch.tensor(self.epsilon)
        config = decoder.config
        self.has_axes = "mrope_section" in (getattr(config, "rope_parameters", None) or {})
        self.heads, self.heads_kv = config.num_attention_heads, config.num_key_value_heads
        self.layers = [_layer(layer, self.heads, self.heads_kv) for layer in decoder.layers]

    def __call__(self, ids: Tensor, positions: Tensor, prefix: Growing) -> Tensor:
        """Run one token of each row.

        Args:
            ids: token ids ``[R]``.
            positions: their positions ``[A, R]``; text has the same position on every axis.
            prefix: cache of all earlier tokens, which this token joins.

        Returns:
            Hidden states ``[R, D]`` after the final norm.
        """
        x: Tensor = self.words(ids)
        places = positions if self.has_axes else positions[0]
        cosine, sine = self.rotary(x[:, None], places[..., None])
        half = cosine.shape[-1] // 2
        # Rotation is x cos + (-x2, x1) sin; rolling gives (x2, x1), and the sine carries the sign.
        sine = torch.cat([-sine[..., :half], sine[..., half:]], -1)
        for layer in self.layers:
            x = x + self._attended(layer, x, cosine, sine, prefix)
            gate, up = F.linear(self._normed(x, layer.between), *layer.gate_up).chunk(2, -1)
            x = x + F.linear(layer.activation(gate) * up, *layer.down)
        return self._normed(x, self.norm)

    def _attended(
        self, layer: _Layer, x: Tensor, cosine: Tensor, sine: Tensor, prefix: Growing
    ) -> Tensor:
        rows, count = len(x), self.heads + self.heads_kv
        qkv = F.linear(self._normed(x, layer.before), *layer.qkv)
        qkv = qkv.view(rows, count + self.heads_kv, -1)
        turned = qkv[:, :count]
        if layer.heads is not None:
            turned = self._normed(turned, layer.heads)
        turned = turned * cosine + turned.roll(turned.shape[-1] // 2, -1) * sine
        turned, value = turned.to(qkv.dtype)[:, :, None], qkv[:, count:, None]
        query, key = turned[:, : self.heads], turned[:, self.heads :]
        mixed = prefix.attend(layer.attention, query, key, value, None, layer.attention.scaling)
        return F.linear(mixed.reshape(rows, -1), *layer.out)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        if not x.is_cpu:
            weight = weight.to(x.dtype)
            if weight.ndim == 1:
                return F.rms_norm(x, weight.shape, weight, self.epsilon)
            return F.rms_norm(x, x.shape[-1:], None, self.epsilon) * weight
        # On a CPU torch composes rms_norm of several operations, which take half as long again.
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = torch.addcmul(self.floor, length, length, value=1 / x.shape[-1]).rsqrt()
        return (x * scale).to(x.dtype) * weight


def can_fuse(decoder: Any) -> bool:
    """True for a decoder of `LLAMA_KINDS` without weights in 4 bits."""
    fits = decoder.config.model_type in LLAMA_KINDS
    return fits and all(parameter.is_floating_point() for parameter in decoder.parameters())


def _layer(layer: Any, heads: int, heads_kv: int) -> _Layer:
    attention, rest = layer.self_attn, layer.mlp
    projections = [attention.q_proj, attention.k_proj, attention.v_proj]
    norms = None
    if hasattr(attention, "q_norm"):
        pairs = ((attention.q_norm, heads), (attention.k_norm, heads_kv))
        norms = torch.cat([norm.weight.expand(count, -1) for norm, count in pairs])
    return _Layer(
        attention=attention,
        activation=rest.act_fn,
        before=_of_text(layer.input_layernorm).weight,
        qkv=_joined([_of_text(projection) for projection in projections]),
        heads=norms,
        out=_joined([attention.o_proj]),
        between=_of_text(layer.post_attention_layernorm).weight,
        gate_up=_joined([rest.gate_proj, rest.up_proj]),
        down=_joined([rest.down_proj]),
    )


def _of_text(module: Any) -> Any:
    """The copy of mPLUG-Owl2's modules that text goes through; other modules have one."""
    return getattr(module, "multiway", [module])[0]


def _joined(linears: Sequence[Any]) -> tuple[Tensor, Tensor | None]:
    """Stacked weights and biases of several linear layers."""
    weights, biases = zip(*(_whole(linear) for linear in linears), strict=True)
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    bias = None if biases[0] is None else torch.cat(biases)
    return weight, bias


def _whole(linear: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias in products, with LoRA's updates added."""
    base = getattr(linear, "base_layer", linear)
    weight, bias = base.weight, base.bias
    if base is not linear:
        from lit_biqa.compat.peft import updated_weight

        weight = updated_weight(linear)
    return in_autocast(weight), None if bias is None else in_autocast(bias)
