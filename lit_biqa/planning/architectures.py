"""Sizes of backbones, for machines without their configuration files.

Source: the ``config.json`` of each repository on the hub. Their parameters add up to the sizes of
the published weight files, see ``tests/planning/test_outline.py``.
"""

from __future__ import annotations

from typing import Any

_QWEN2_7B = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}
_QWEN2_3B = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
}
_QWEN3_8B = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
_QWEN2_TOWER = {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16}
_QWEN2_5_TOWER = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "window_size": 112,
}
_QWEN3_TOWER = {
    "depth": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_heads": 16,
    "patch_size": 16,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [8, 16, 24],
}
_INTERN_TOWER = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": [448, 448],
    "patch_size": [14, 14],
    "attention_bias": True,
}
_SIGLIP_TOWER = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}

#: Settings of the configuration as in ``config.json``, by hub name. Fine-tuned models have the
#: sizes of their base; mPLUG-Owl2's are the defaults of `MplugOwl2Config`.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2-VL-7B-Instruct": {
        "model_type": "qwen2_vl",
        "text_config": _QWEN2_7B,
        "vision_config": {**_QWEN2_TOWER, "hidden_size": 3584},
        "tie_word_embeddings": False,
    },
    "Qwen/Qwen2.5-VL-3B-Instruct": {
        "model_type": "qwen2_5_vl",
        "text_config": _QWEN2_3B,
        "vision_config": {**_QWEN2_5_TOWER, "out_hidden_size": 2048},
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen2.5-VL-7B-Instruct": {
        "model_type": "qwen2_5_vl",
        "text_config": _QWEN2_7B,
        "vision_config": {**_QWEN2_5_TOWER, "out_hidden_size": 3584},
        "tie_word_embeddings": False,
    },
    "Qwen/Qwen3-VL-8B-Instruct": {
        "model_type": "qwen3_vl",
        "text_config": _QWEN3_8B,
        "vision_config": {**_QWEN3_TOWER, "out_hidden_size": 4096},
        "tie_word_embeddings": False,
    },
    "OpenGVLab/InternVL3-8B-hf": {
        "model_type": "internvl",
        "text_config": {**_QWEN2_7B, "model_type": "qwen2", "vocab_size": 151674},
        "vision_config": _INTERN_TOWER,
        "tie_word_embeddings": False,
    },
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": {
        "model_type": "llava_onevision",
        "text_config": {**_QWEN2_7B, "model_type": "qwen2"},
        "vision_config": _SIGLIP_TOWER,
        "tie_word_embeddings": False,
    },
    "MAGAer13/mplug-owl2-llama2-7b": {"model_type": "mplug_owl2"},
}
