"""The vision tower: a ViT with a class token, of which every output token is used."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_biqa.backbones.mplug_owl2.attention import attend
from lit_biqa.backbones.mplug_owl2.configuration import MplugOwl2Config
from lit_biqa.compat.transformers import ACT2FN, GradientCheckpointingLayer


class VisionEmbeddings(nn.Module):
    """Patches, class token and learned positions, normed: ``[N, 3, S, S] -> [N, G * G + 1, D]``."""

    def __init__(self, config: MplugOwl2Config) -> None:
        super().__init__()
        vision = config.vision
        width, patch = vision.hidden_size, vision.patch_size
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.position_embedding = nn.Parameter(torch.empty(1, vision.grid**2 + 1, width))
        self.patch_embed = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.pre_layernorm = nn.LayerNorm(width, eps=vision.layer_norm_eps)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images ``[N, 3, S, S]``."""
        patches = self.patch_embed(images.to(self.patch_embed.weight.dtype))
        patches = patches.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        normed: Tensor = self.pre_layernorm(tokens + self.position_embedding)
        return normed


class VisionAttention(nn.Module):
    """Full attention over one image's tokens."""

    is_causal = False

    def __init__(self, config: MplugOwl2Config) -> None:
        super().__init__()
        self.config = config
        self.heads = config.vision.num_attention_heads
        width = config.vision.hidden_size
        self.query_key_value = nn.Linear(width, 3 * width)
        self.dense = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """Attend within ``[N, L, D]``; also gives the weights if eager."""
        # The official weights interleave query, key and value within each head.
        mixed = self.query_key_value(hidden).unflatten(-1, (self.heads, 3, -1))
        query, key, value = mixed.transpose(1, 2).unbind(dim=3)
        context, weights = attend(self, self.config._attn_implementation, query, key, value)
        return self.dense(context), weights


class VisionMLP(nn.Module):
    """Two linear layers with the configured activation between."""

    def __init__(self, config: MplugOwl2Config) -> None:
        super().__init__()
        vision = config.vision
        self.fc1 = nn.Linear(vision.hidden_size, vision.intermediate_size)
        self.fc2 = nn.Linear(vision.intermediate_size, vision.hidden_size)
        self.activation = ACT2FN[vision.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        """Apply per token."""
        output: Tensor = self.fc2(self.activation(self.fc1(hidden)))
        return output


class VisionLayer(GradientCheckpointingLayer):  # type: ignore[misc]
    """Pre-norm transformer block."""

    def __init__(self, config: MplugOwl2Config) -> None:
        super().__init__()
        width, eps = config.vision.hidden_size, config.vision.layer_norm_eps
        self.input_layernorm = nn.LayerNorm(width, eps=eps)
        self.self_attn = VisionAttention(config)
        self.post_attention_layernorm = nn.LayerNorm(width, eps=eps)
        self.mlp = VisionMLP(config)

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform ``[N, L, D]``."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden))[0]
        output: Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return output


class VisionEncoder(nn.Module):
    """The stack of blocks."""

    def __init__(self, config: MplugOwl2Config) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            VisionLayer(config) for _ in range(config.vision.num_hidden_layers)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform ``[N, L, D]``."""
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class VisionTower(nn.Module):
    """Images to features: ``[N, 3, S, S] -> [N, G * G + 1, D]``, the class token first."""

    def __init__(self, config: MplugOwl2Config) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.encoder = VisionEncoder(config)
        self.post_layernorm = nn.LayerNorm(
            config.vision.hidden_size, eps=config.vision.layer_norm_eps
        )

    def forward(self, images: Tensor) -> Tensor:
        """Encode images ``[N, 3, S, S]``."""
        features: Tensor = self.post_layernorm(self.encoder(self.embeddings(images)))
        return features
