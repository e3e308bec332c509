"""Visual abstractor: learned queries that extract a fixed number of vectors from an image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_biqa.backbones.mplug_owl2.attention import attend, split_heads
from lit_biqa.backbones.mplug_owl2.configuration import AbstractorSettings, MplugOwl2Config
from lit_biqa.compat.transformers import GradientCheckpointingLayer


def sincos(positions: Tensor, width: int) -> Tensor:
    """Sine and cosine code of positions ``[P] -> [P, width]``: all sines, then all cosines.

    The frequencies are ``10000 ** (-j / (width / 2))`` (Vaswani et al., arXiv 1706.03762, sec. 3.5,
    without interleaving).
    """
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=positions.device)
    angles = positions.float()[:, None] * 10000.0 ** (-steps / half)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def position_tables(settings: AbstractorSettings, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions of the queries ``[Q, D]`` and of the image tokens ``[G * G + 1, D]``, in float32.

    The class token's are zero; a patch's are its column's code and then its row's, each half wide.
    They are computed anew each time: as buffers they would be in no official checkpoint, and a
    model built on the meta device would then hold uninitialised memory in their place.
    """
    width, grid = settings.hidden_size, settings.grid_size
    queries = sincos(torch.arange(settings.num_learnable_queries, device=device), width)
    axis = sincos(torch.arange(grid, device=device), width // 2)
    columns, rows = axis.repeat(grid, 1), axis.repeat_interleave(grid, dim=0)
    patches = torch.cat([columns, rows], dim=1)
    return queries, F.pad(patches, (0, 0, 1, 0))


class CrossAttentionProjections(nn.Module):
    """Queries attend to themselves and the image; positions enter queries and keys, not values."""

    is_causal = False

    def __init__(self, config: MplugOwl2Config) -> None:
        super().__init__()
        self.config = config
        self.heads = config.abstractor.num_attention_heads
        width = config.abstractor.hidden_size
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, hidden: Tensor, memory: Tensor, at_query: Tensor, at_key: Tensor) -> Tensor:
        """Mix ``memory [N, Q + L, D]`` for ``hidden [N, Q, D]``; ``at_*`` are the positions."""
        query = split_heads(self.query(hidden + at_query), self.heads)
        key = split_heads(self.key(memory + at_key), self.heads)
        value = split_heads(self.value(memory), self.heads)
        return attend(self, self.config._attn_implementation, query, key, value)[0]


class AbstractorMLP(nn.Module):
    """SwiGLU (Shazeer, arXiv 2002.05202) with a norm before its last layer."""

    def __init__(self, settings: AbstractorSettings) -> None:
        super().__init__()
        width, inner = settings.hidden_size, settings.intermediate_size
        self.w1 = nn.Linear(width, inner)
        self.w2 = nn.Linear(inner, width)
        self.w3 = nn.Linear(width, inner)
        self.ffn_ln = nn.LayerNorm(inner, eps=settings.layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        """Apply per vector."""
        output: Tensor = self.w2(self.ffn_ln(F.silu(self.w1(hidden)) * self.w3(hidden)))
        return output


class AbstractorOutput(nn.Module):
    """Output part of the attention: projection, residual, and feed-forward part."""

    def __init__(self, settings: AbstractorSettings) -> None:
        super().__init__()
        self.out_proj = nn.Linear(settings.hidden_size, settings.hidden_size)
        self.norm2 = nn.LayerNorm(settings.hidden_size)
        self.mlp = AbstractorMLP(settings)

    def forward(self, context: Tensor, residual: Tensor) -> Tensor:
        """Add the attention's ``context`` to ``residual``, then the feed-forward part."""
        hidden = residual + self.out_proj(context)
        output: Tensor = hidden + self.mlp(self.norm2(hidden))
        return output


class CrossAttention(nn.Module):
    """Attention and feed-forward part of one layer."""

    def __init__(self, config: MplugOwl2Config) -> None:
        super().__init__()
        settings = config.abstractor
        self.attention = CrossAttentionProjections(config)
        # These two and norm2 keep torch's own eps: the configured one is ffn_ln's alone.
        self.norm1 = nn.LayerNorm(settings.hidden_size)
        self.normk = nn.LayerNorm(settings.hidden_size)
        self.output = AbstractorOutput(settings)

    def forward(self, hidden: Tensor, image: Tensor, at_query: Tensor, at_key: Tensor) -> Tensor:
        """Update queries ``hidden [N, Q, D]`` from ``image [N, L, D]``."""
        hidden = self.norm1(hidden)
        memory = torch.cat([hidden, self.normk(image)], dim=1)
        context = self.attention(hidden, memory, at_query, at_key)
        # The residual starts from the normed queries, not from what came in.
        output: Tensor = self.output(context, hidden)
        return output


class AbstractorLayer(GradientCheckpointingLayer):  # type: ignore[misc]
    """One layer, under the name that the official weights give it."""

    def __init__(self, config: MplugOwl2Config) -> None:
        super().__init__()
        self.crossattention = CrossAttention(config)

    def forward(self, hidden: Tensor, image: Tensor, at_query: Tensor, at_key: Tensor) -> Tensor:
        """Update queries ``hidden [N, Q, D]`` from ``image [N, L, D]``."""
        output: Tensor = self.crossattention(hidden, image, at_query, at_key)
        return output


class AbstractorEncoder(nn.Module):
    """The stack of layers; each sees the same image features."""

    def __init__(self, config: MplugOwl2Config) -> None:
        super().__init__()
        self.settings = config.abstractor
        self.layers = nn.ModuleList(
            AbstractorLayer(config) for _ in range(self.settings.num_hidden_layers)
        )

    def forward(self, hidden: Tensor, image: Tensor) -> Tensor:
        """Update queries ``hidden [N, Q, D]`` from ``image [N, L, D]``."""
        of_queries, of_image = position_tables(self.settings, hidden.device)
        at_query = of_queries.to(hidden.dtype)
        at_key = torch.cat([of_queries, of_image]).to(hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, image, at_query, at_key)
        return hidden


class VisualAbstractor(nn.Module):
    """Image features to decoder inputs: ``[N, G * G + 1, D] -> [N, Q + 1, H]``.

    The last of the vectors is a learned mark of the image's end.
    """

    def __init__(self, config: MplugOwl2Config) -> None:
        super().__init__()
        settings = config.abstractor
        self.query_embeds = nn.Parameter(
            torch.empty(1, settings.num_learnable_queries, settings.hidden_size)
        )
        self.encoder = AbstractorEncoder(config)
        self.visual_fc = nn.Linear(settings.hidden_size, config.hidden_size)
        self.vit_eos = nn.Parameter(torch.empty(1, 1, config.hidden_size))

    def forward(self, features: Tensor) -> Tensor:
        """Abstract features ``[N, G * G + 1, D]``."""
        queries = self.query_embeds.expand(len(features), -1, -1)
        vectors = self.visual_fc(self.encoder(queries, features))
        return torch.cat([vectors, self.vit_eos.expand(len(features), -1, -1)], dim=1)
