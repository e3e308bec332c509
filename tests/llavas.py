"""Small LLaVA-1.5, LLaVA-OneVision and InternVL3 of random weights, in folders."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers  # whose classes are imported where they are used, after `lit_biqa`
from huggingface_hub import save_torch_state_dict

from lit_biqa.backbones.auto_chat import AutoChat
from lit_biqa.backbones.tiny_chat import byte_level_tokenizer, words_of
from lit_biqa.backbones.tuning import Tuning

# As llava-hf writes it: the image first, roles in capitals.
TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
# ChatML with another image token and a line behind it, as LLaVA-OneVision and InternVL3 have it.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIDE = 28  # of a tile of the models that cut images, in pixels


def write_llava(folder: Path, vocabulary: int = 400, layers: int = 2, **changes: Any) -> Path:
    """A CLIP tower, a projector and a Llama decoder; ``changes`` are the processor's."""
    tokenizer = _tokenizer(vocabulary, "<image>")
    vision = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=56,
        patch_size=14,
    )
    config = transformers.LlavaConfig(
        vision_config=vision,
        text_config=transformers.LlamaConfig(**_decoder(tokenizer, layers)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    _save(transformers.LlavaForConditionalGeneration, config, folder)
    images = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}
    )
    settings = {
        "patch_size": 14,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
        "chat_template": TEMPLATE,
    }
    transformers.LlavaProcessor(images, tokenizer, **settings | changes).save_pretrained(folder)
    return folder


def write_llava_onevision(folder: Path, vocabulary: int = 400, layers: int = 2) -> Path:
    """A SigLIP tower, a projector and a Qwen2 decoder; an image is cut into up to 6 tiles."""
    tokenizer = _tokenizer(vocabulary, "<image>", "<video>")
    grid = [[rows * SIDE, columns * SIDE] for rows in (1, 2, 3) for columns in (1, 2)]
    config = transformers.LlavaOnevisionConfig(
        vision_config={**_vision(), "model_type": "siglip_vision_model", "vision_use_head": False},
        text_config=transformers.Qwen2Config(**_decoder(tokenizer, layers)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grid,
        vision_aspect_ratio="anyres_max_4",
    )
    _save(transformers.LlavaOnevisionForConditionalGeneration, config, folder)
    size = {"height": SIDE, "width": SIDE}
    images = transformers.LlavaOnevisionImageProcessorPil(size=size, image_grid_pinpoints=grid)
    transformers.LlavaOnevisionProcessor(
        images,
        tokenizer,
        transformers.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_4",
        chat_template=CHATML.replace("IMAGE", "<image>"),
    ).save_pretrained(folder)
    return folder


def write_internvl(folder: Path, vocabulary: int = 400, layers: int = 2) -> Path:
    """A tower of InternVL, a projector and a Qwen2 decoder; an image becomes up to 4 tiles."""
    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = _tokenizer(vocabulary, *names.values())
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token,
        extra_special_tokens=names,
    )
    config = transformers.InternVLConfig(
        vision_config={**_vision(), "layer_scale_init_value": 0.5},
        text_config=transformers.Qwen2Config(**_decoder(tokenizer, layers)),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    _save(transformers.InternVLForConditionalGeneration, config, folder)
    size = {"height": SIDE, "width": SIDE}
    transformers.InternVLProcessor(
        transformers.GotOcr2ImageProcessorPil(size=size, max_patches=4),
        tokenizer,
        transformers.InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=CHATML.replace("IMAGE", "<IMG_CONTEXT>"),
    ).save_pretrained(folder)
    return folder


WRITERS = {
    "llava": write_llava,
    "llava_onevision": write_llava_onevision,
    "internvl": write_internvl,
}


@cache
def folder_of(kind: str, vocabulary: int, layers: int) -> Path:
    """Folder of a small model of a type; do not change it."""
    return WRITERS[kind](Path(tempfile.mkdtemp()), vocabulary, layers)


class _Small(AutoChat):
    kind = "llava"

    def __init__(
        self,
        layers: int = 2,
        vocabulary: int = 401,
        tuning: Tuning = Tuning(),
        context: int = 1024,
    ) -> None:
        folder = folder_of(self.kind, vocabulary, layers)
        super().__init__(str(folder), tuning, context)


class SmallLlava(_Small):
    """LLaVA-1.5: one tile of 16 positions."""


class SmallLlavaOneVision(_Small):
    """LLaVA-OneVision: tiles, without padding and with row ends."""

    kind = "llava_onevision"


class SmallInternVL(_Small):
    """InternVL3: tiles of 4 positions, between two tokens."""

    kind = "internvl"


def _tokenizer(vocabulary: int, *images: str) -> transformers.PreTrainedTokenizerFast:
    tokenizer: transformers.PreTrainedTokenizerFast = byte_level_tokenizer(words_of(()), vocabulary)
    tokenizer.add_special_tokens({"additional_special_tokens": list(images)})
    tokenizer.chat_template = None
    return tokenizer


def _decoder(tokenizer: transformers.PreTrainedTokenizerFast, layers: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _vision() -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": 7,
    }


def _save(kind: Any, config: Any, folder: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config)
    # `save_pretrained` of a model would write nothing on the second of two ranks.
    config.save_pretrained(folder)
    save_torch_state_dict(model.state_dict(), folder)
