"""Small mPLUG-Owl2 models with random weights, for tests."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from lit_biqa.backbones.mplug_owl2 import MplugOwl2Config, MplugOwl2ForConditionalGeneration


def mini_config(**changes: Any) -> MplugOwl2Config:
    """A configuration in which no two sizes are equal that need not be, and unlike the goldens'."""
    vision = {
        "hidden_size": 24,
        "intermediate_size": 36,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "image_size": 30,
        "patch_size": 10,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-3,
    }
    abstractor = {
        "hidden_size": 24,
        "encoder_hidden_size": 24,
        "num_learnable_queries": 5,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 20,
        "layer_norm_eps": 1e-2,
        "grid_size": 3,
    }
    settings = {
        "vocab_size": 61,
        "hidden_size": 40,
        "intermediate_size": 52,
        "num_hidden_layers": 2,
        "num_attention_heads": 5,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-3,
        "rope_theta": 500.0,
        "pad_token_id": 0,
        "visual_config": {"visual_model": vision, "visual_abstractor": abstractor},
    }
    return MplugOwl2Config(**{**settings, **changes})


def random_model(config: MplugOwl2Config, seed: int = 0) -> Any:
    """Weights far from their initial values, norms and biases too, so that each one counts."""
    model = MplugOwl2ForConditionalGeneration(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.3
            parameter.copy_(noise * scale + (parameter.ndim == 1))
    return model


@cache
def mini() -> Any:
    """One such model; do not change it."""
    return random_model(mini_config())


def pictures(count: int, seed: int = 5) -> Tensor:
    """Images of the size that `mini` takes."""
    return torch.randn(count, 3, 30, 30, generator=torch.Generator().manual_seed(seed))
