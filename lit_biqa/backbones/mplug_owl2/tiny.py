"""A small mPLUG-Owl2 with random weights, built offline: for tests and for recipes on a CPU."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from transformers import CLIPImageProcessorPil

from lit_biqa.backbones.mplug_owl2.configuration import MplugOwl2Config
from lit_biqa.backbones.mplug_owl2.generation import MplugOwl2ForConditionalGeneration
from lit_biqa.backbones.mplug_owl2.processing import MplugOwl2Processor
from lit_biqa.backbones.mplug_owl2.tokenization import train_tokenizer

# Words that recipes and readouts ask for; each becomes one token.
TEXTS = (
    "USER: Describe the quality of this image. ASSISTANT:",
    "The quality of the image is bad, poor, fair, average, good, excellent, low, medium or high.",
    "The image is sharp, clear and bright, with rich details and vivid colors.",
    "The image is blurry, noisy and dark; the lighting, focus, contrast and texture are poor.",
    "Therefore, the quality of this image is very poor. In conclusion, the quality is very good.",
    "Rate the image from 1 to 5. The score is 3.25.",
)
_PATCH = 14
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


def tiny_mplug_owl2(
    seed: int = 0,
    texts: Iterable[str] = TEXTS,
    vocabulary_size: int = 512,
    width: int = 64,
    layers: int = 4,
    image_size: int = 56,
) -> tuple[MplugOwl2ForConditionalGeneration, MplugOwl2Processor]:
    """A model with random weights and the processor that goes with it; nothing is downloaded.

    Args:
        seed: of the weights; the same seed gives the same model.
        texts: what the tokenizer learns its words from.
        vocabulary_size: at most so many tokens, 259 of them reserved.
        width: hidden size of every part, a multiple of 16.
        layers: of the decoder; tower and abstractor have 2.
        image_size: side of the square that images become, a multiple of 14.

    Raises:
        InputError: for sizes that do not fit each other.
    """
    tokenizer = train_tokenizer(texts, vocabulary_size)
    config = MplugOwl2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        rms_norm_eps=1e-5,
        pad_token_id=tokenizer.pad_token_id,
        visual_config=_visual(width, image_size),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MplugOwl2ForConditionalGeneration(config).eval()
    image_processor = CLIPImageProcessorPil(
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
        image_mean=list(_MEAN),
        image_std=list(_STD),
    )
    return model, MplugOwl2Processor(image_processor, tokenizer)


def _visual(width: int, image_size: int) -> dict[str, dict[str, int]]:
    shared = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    return {
        "visual_model": {**shared, "image_size": image_size, "patch_size": _PATCH},
        "visual_abstractor": {
            **shared,
            "encoder_hidden_size": width,
            "num_learnable_queries": 8,
            "grid_size": image_size // _PATCH,
        },
    }
