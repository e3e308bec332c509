"""The decoder: LLaMA-2 whose norms, keys and values have a copy for text and one for images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lit_biqa.backbones.mplug_owl2.attention import attend, split_heads
from lit_biqa.backbones.mplug_owl2.configuration import MplugOwl2Config
from lit_biqa.compat.transformers import ACT2FN, CACHE, Cache, GradientCheckpointingLayer

# For peft: every linear layer in the decoder's blocks, both copies, and not the norms beside them.
LORA_TARGETS = (
    r"model\.layers\.\d+\.(self_attn\.([qo]_proj|[kv]_proj\.multiway\.[01])|mlp\.\w+_proj)"
)


class Route(NamedTuple):
    """Which positions are text and which image: indices into the flattened ``[B * L]``."""

    text: Tensor
    image: Tensor

    @classmethod
    def of(cls, image_positions: Tensor) -> Route:
        """From a mask ``[B, L]``, true at image positions."""
        flat = image_positions.flatten()
        return cls((~flat).nonzero()[:, 0], flat.nonzero()[:, 0])


class Rotary(NamedTuple):
    """Cosines and sines of the rotary angles, ``[B, 1, L, d]``, in the decoder's dtype."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def of(cls, positions: Tensor, width: int, theta: float, dtype: torch.dtype) -> Rotary:
        """For integer positions ``[B, L]`` (Su et al., arXiv 2104.09864, half-split as in LLaMA).

        The frequencies are computed here and not kept: a buffer would be lost when a model is
        built on the meta device.
        """
        steps = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device)
        angles = positions[:, None, :, None].float() * (1.0 / theta ** (steps / width))
        angles = torch.cat([angles, angles], dim=-1)
        return cls(angles.cos().to(dtype), angles.sin().to(dtype))

    def turn(self, states: Tensor) -> Tensor:
        """Rotate queries or keys ``[B, heads, L, d]``."""
        low, high = states.chunk(2, dim=-1)
        return states * self.cos + torch.cat([-high, low], dim=-1) * self.sin


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang and Sennrich, arXiv 1910.07467), its statistics in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.variance_epsilon = eps

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise the last dimension."""
        exact = hidden.float()
        exact = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * exact.to(hidden.dtype)


class Multiway(nn.Module):
    """Two copies of a module: the first for text positions, the second for image positions.

    Each position goes through its own copy only, so the cost is that of one. Measured on a CPU,
    forward and backward of a linear layer over half image positions: 1.0 to 1.2 times one copy
    from width 256 on, against 2.0 to 2.4 for computing both and choosing.
    """

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.multiway = nn.ModuleList([make(), make()])

    def forward(self, hidden: Tensor, route: Route | None) -> Tensor:
        """Apply to ``[B, L, D]``; without a route every position is text."""
        of_text, of_image = self.multiway
        if route is None:
            plain: Tensor = of_text(hidden)
            return plain
        flat = hidden.flatten(0, 1)
        text = of_text(flat.index_select(0, route.text))
        image = of_image(flat.index_select(0, route.image))
        mixed: Tensor = text.new_empty(len(flat), text.shape[-1])
        mixed = mixed.index_copy(0, route.text, text).index_copy(0, route.image, image)
        return mixed.view(*hidden.shape[:2], -1)


class DecoderAttention(nn.Module):
    """Causal attention; image positions are causal too."""

    is_causal = True

    def __init__(self, config: MplugOwl2Config, index: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = index
        self.heads = config.num_attention_heads
        self.scaling = (config.hidden_size // self.heads) ** -0.5

        def linear() -> nn.Linear:
            return nn.Linear(config.hidden_size, config.hidden_size, bias=config.attention_bias)

        self.q_proj = linear()
        self.k_proj = Multiway(linear)
        self.v_proj = Multiway(linear)
        self.o_proj = linear()

    def forward(
        self,
        hidden: Tensor,
        rotary: Rotary,
        mask: Tensor | None,
        route: Route | None,
        cache: Cache | None,
        **more: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend over the cache and ``[B, L, D]``; also gives the weights if eager."""
        query = rotary.turn(split_heads(self.q_proj(hidden), self.heads))
        key = rotary.turn(split_heads(self.k_proj(hidden, route), self.heads))
        value = split_heads(self.v_proj(hidden, route), self.heads)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        implementation = self.config._attn_implementation
        context, weights = attend(self, implementation, query, key, value, mask, **more)
        return self.o_proj(context), weights


class DecoderMLP(nn.Module):
    """Gated feed-forward part."""

    def __init__(self, config: MplugOwl2Config) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        """Apply per position."""
        gated = self.act_fn(self.gate_proj(hidden)) * self.up_proj(hidden)
        output: Tensor = self.down_proj(gated)
        return output


class DecoderLayer(GradientCheckpointingLayer):  # type: ignore[misc]
    """Pre-norm decoder block."""

    def __init__(self, config: MplugOwl2Config, index: int) -> None:
        super().__init__()

        def norm() -> RMSNorm:
            return RMSNorm(config.hidden_size, config.rms_norm_eps)

        self.self_attn = DecoderAttention(config, index)
        self.mlp = DecoderMLP(config)
        self.input_layernorm = Multiway(norm)
        self.post_attention_layernorm = Multiway(norm)

    def forward(
        self,
        hidden: Tensor,
        rotary: Rotary,
        mask: Tensor | None,
        route: Route | None,
        **more: Any,
    ) -> Tensor:
        """Transform ``[B, L, D]``; ``more`` goes to the attention function.

        The cache stands in ``more`` under transformers' own name, by which layers that recompute
        know what to drop.
        """
        cache = more.pop(CACHE, None)
        normed = self.input_layernorm(hidden, route)
        mixed, _ = self.self_attn(normed, rotary, mask, route, cache, **more)
        hidden = hidden + mixed
        normed = self.post_attention_layernorm(hidden, route)
        output: Tensor = hidden + self.mlp(normed)
        return output
