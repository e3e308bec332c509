"""Internals of transformers, and names that differ between its releases.

Importing transformers takes seconds and only models need it: modules that every command imports
therefore import this module inside functions.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    Cache,
    DynamicCache,
    GenerationMixin,
    initialization,
)
from transformers.activations import ACT2FN
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.image_utils import load_image
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import create_causal_mask, sdpa_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, slice_logits_to_keep
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from transformers.utils import cached_file, can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from lit_biqa.compat.versions import check
from lit_biqa.types import InputError

__all__ = [
    "ACT2FN",
    "ALL_ATTENTION_FUNCTIONS",
    "CACHE",
    "CACHE_NAMES",
    "AttentionInterface",
    "AttentionMaskInterface",
    "BaseModelOutputWithPast",
    "Cache",
    "CausalLMOutputWithPast",
    "DynamicCache",
    "GenerationMixin",
    "GradientCheckpointingLayer",
    "cache_of",
    "cached_file",
    "can_return_tuple",
    "capture_outputs",
    "causal_mask",
    "class_of",
    "current_name",
    "either_cache",
    "initialization",
    "load_image",
    "named_cache",
    "sdpa_attention_forward",
    "sdpa_mask",
    "slice_logits_to_keep",
    "smart_resize",
]

# Name of the argument and of the output field that hold the key-value cache.
CACHE_NAMES = ("cache", "past_key_values")
CACHE = "cache" if check("transformers") >= (5, 24) else "past_key_values"


def named_cache(cache: Cache | None) -> dict[str, Any]:
    """Keyword argument for a cache, under its name in the installed release."""
    return {CACHE: cache}


def cache_of(output: Any) -> Any:
    """Cache of a model's output; ``None`` if the model keeps none."""
    return getattr(output, CACHE)


def either_cache(cache: Cache | None, past_key_values: Cache | None) -> Cache | None:
    """Cache of a caller who may use either name.

    Raises:
        InputError: if both names are given.
    """
    if cache is not None and past_key_values is not None:
        raise InputError("cache and past_key_values are two names of one argument: give only cache")
    return past_key_values if cache is None else cache


def causal_mask(
    config: Any, embeds: Tensor, attention_mask: Tensor | None, cache: Cache | None
) -> Any:
    """Causal mask of a decoder, in the form that the configured attention takes.

    Args:
        config: configuration of the decoder.
        embeds: input embeddings ``[B, L, H]``.
        attention_mask: ``[B, cached + L]``, 1 at tokens, 0 at padding.
        cache: keys and values of earlier positions.
    """
    return create_causal_mask(
        config=config, inputs_embeds=embeds, attention_mask=attention_mask, **named_cache(cache)
    )


def current_name(model: Any, name: str) -> str:
    """Name of a weight in this release, of a name in any that transformers still reads.

    Example:
        >>> current_name(qwen2_5_vl, "model.layers.0.self_attn.q_proj.weight")
        'model.language_model.layers.0.self_attn.q_proj.weight'
    """
    for renaming in get_model_conversion_mapping(model):
        name, _ = renaming.rename_source_key(name)
    return name


def class_of(kind: Any, name: str, options: dict[str, str]) -> tuple[Any, Any]:
    """Class of a checkpoint's model, of which ``kind`` may be an auto class; and configuration."""
    config = AutoConfig.from_pretrained(name, trust_remote_code=False, **options)
    classes = getattr(kind, "_model_mapping", None)
    return kind if classes is None else classes[type(config)], config
