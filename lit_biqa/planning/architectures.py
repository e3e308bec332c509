"""Sizes of the papers' backbones, for machines without their configuration files.

Source: the ``config.json`` of each repository on the hub. Their parameters add up to the sizes of
the published weight files, see ``tests/planning/test_outline.py``.
"""

from __future__ import annotations

from typing import Any

_TOWER = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "window_size": 112,
}
_QWEN_7B: dict[str, Any] = {
    "text_config": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
    "vision_config": {**_TOWER, "out_hidden_size": 3584},
    "tie_word_embeddings": False,
}
_QWEN_3B: dict[str, Any] = {
    "text_config": {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
    },
    "vision_config": {**_TOWER, "out_hidden_size": 2048},
    "tie_word_embeddings": True,
}

#: Keyword arguments of the configuration class, by hub name. Fine-tuned models have the sizes of
#: their base; mPLUG-Owl2's are the defaults of `MplugOwl2Config`.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-VL-3B-Instruct": _QWEN_3B,
    "Qwen/Qwen2.5-VL-7B-Instruct": _QWEN_7B,
    "MAGAer13/mplug-owl2-llama2-7b": {},
}
