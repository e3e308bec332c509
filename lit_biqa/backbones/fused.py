"""A decoder for one token of each row at a time, with fewer and larger products.

Where a step reads all weights for a few rows, what surrounds the products costs as much as they
do. So products of the same input are one product, LoRA's updates are part of the weights, and
nothing is called that a row of text does not need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_biqa.backbones.shared_prefix import Growing


@dataclass(frozen=True, eq=False)
class _Layer:
    """Weights of a layer, keys and values of few heads beside the queries of all.

    Attributes:
        attention: the layer's own, which names it to the cache.
        activation: of the gate.
        before: of the norm before the attention.
        qkv: weight and bias.
        out: likewise, and so on.
        between: of the norm before the rest.
        gate_up: both, one above the other.
        down: back to the width of the decoder.
    """

    attention: Any
    activation: nn.Module
    before: Tensor
    qkv: tuple[Tensor, Tensor | None]
    out: tuple[Tensor, Tensor | None]
    between: Tensor
    gate_up: tuple[Tensor, Tensor | None]
    down: tuple[Tensor, Tensor | None]


class FusedDecoder:
    """Qwen2.5-VL's decoder on rows of one text token.

    It holds copies of most weights, LoRA's updates merged in float32, in the precision of autocast
    where that is on: make one for each rollout, and let it go.

    Args:
        decoder: of transformers, its weights whole and none of them packed in 4 bits.
    """

    def __init__(self, decoder: Any) -> None:
        self.words, self.rotary = decoder.embed_tokens, decoder.rotary_emb
        self.norm, self.epsilon = decoder.norm.weight, decoder.norm.variance_epsilon
        self.floor = torch.tensor(self.epsilon)
        config = decoder.config
        self.heads, self.heads_kv = config.num_attention_heads, config.num_key_value_heads
        self.layers = [_layer(each) for each in decoder.layers]

    def __call__(self, ids: Tensor, positions: Tensor, prefix: Growing) -> Tensor:
        """Run one token of each row.

        Args:
            ids: token ids ``[R]``.
            positions: of them, ``[A, R]``; text has the same on every axis.
            prefix: all that comes before, which this token joins.

        Returns:
            Hidden states ``[R, D]`` after the final norm.
        """
        x: Tensor = self.words(ids)
        cosine, sine = self.rotary(x[:, None], positions[..., None])
        half = cosine.shape[-1] // 2
        # x turned is x cos + (-x2, x1) sin; rolled, (x2, x1) takes the sign from the sine.
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
        turned = turned * cosine + turned.roll(turned.shape[-1] // 2, -1) * sine
        turned, value = turned.to(qkv.dtype)[:, :, None], qkv[:, count:, None]
        query, key = turned[:, : self.heads], turned[:, self.heads :]
        mixed = prefix.attend(layer.attention, query, key, value, None, layer.attention.scaling)
        return F.linear(mixed.view(rows, -1), *layer.out)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        if not x.is_cpu:
            return F.rms_norm(x, weight.shape, weight, self.epsilon)
        # On a CPU torch puts it together from parts, and takes half as long again as these.
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = torch.addcmul(self.floor, length, length, value=1 / x.shape[-1]).rsqrt()
        return (x * scale).to(x.dtype) * weight


def can_fuse(decoder: nn.Module) -> bool:
    """Whether all weights are numbers; 4 bits lie packed."""
    return all(parameter.is_floating_point() for parameter in decoder.parameters())


def _layer(layer: Any) -> _Layer:
    attention, rest = layer.self_attn, layer.mlp
    return _Layer(
        attention=attention,
        activation=rest.act_fn,
        before=layer.input_layernorm.weight,
        qkv=_joined([attention.q_proj, attention.k_proj, attention.v_proj]),
        out=_joined([attention.o_proj]),
        between=layer.post_attention_layernorm.weight,
        gate_up=_joined([rest.gate_proj, rest.up_proj]),
        down=_joined([rest.down_proj]),
    )


def _joined(linears: Sequence[Any]) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of all, one above the other."""
    weights, biases = zip(*(_whole(linear) for linear in linears), strict=True)
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    bias = None if biases[0] is None else torch.cat(biases)
    return weight, bias


def _whole(linear: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias as they take part in products, LoRA's updates among them."""
    base = getattr(linear, "base_layer", linear)
    weight, bias = base.weight, base.bias
    if base is not linear:
        from lit_biqa.compat.peft import updated_weight

        weight = updated_weight(linear)
    if torch.is_autocast_enabled(weight.device.type):
        dtype = torch.get_autocast_dtype(weight.device.type)
        weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    return weight, bias
