"""Small vision-language models with random weights, built offline: for CPUs and tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lit_biqa import limits
from lit_biqa.backbones.owl2 import MplugOwl2
from lit_biqa.backbones.qwen_vl import QwenVL
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.io.files import find, refuse_special
from lit_biqa.text.levels import LEVELS
from lit_biqa.text.prompts import QUALITY_OPENING
from lit_biqa.types import InputError, check_range

if TYPE_CHECKING:
    from lit_biqa.backbones.mplug_owl2 import MplugOwl2ForConditionalGeneration, MplugOwl2Processor

# Default texts that tokenizers are trained on: the words of prompts.
TEXTS = (
    "Describe the quality of this image, then conclude with an overall evaluation.",
    "The quality of the image is bad, poor, fair, average, good, excellent, low, medium or high.",
    "The image is sharp, clear and bright, with rich details and vivid colors.",
    "The image is blurry, noisy and dark; the lighting, focus, contrast and texture are poor.",
    "What is your overall rating on the quality of this picture? The rating should be a float "
    "between 1 and 5, rounded to two decimal places, with 1 representing very poor quality and 5 "
    "representing excellent quality. Return the final answer in JSON format.",
    '<think>\nThe image is sharp.\n</think>\n<answer>\n{"rating": 3.25}\n</answer>',
)
_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)
# ChatML in the form of Qwen2.5.
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class TinyMplugOwl2(MplugOwl2):
    """mPLUG-Owl2 in a size that a CPU can train.

    Args:
        texts: files, JSON or plain text, that the tokenizer is trained on, relative to the working
            directory or to ``data.root``; by default the words of prompts.
        vocabulary: most tokens of the vocabulary.
        width: width of every part, a multiple of 16.
        layers: number of decoder layers.
        image_size: side of the square images, a multiple of 14.
        seed: seed of the weights.
        tuning: trained parts, and how they are trained.
        context: most positions of a chat and its answer.

    Raises:
        InputError: for numbers out of range.
    """

    from_checkpoint = False

    def __init__(
        self,
        texts: Sequence[str] = (),
        vocabulary: int = 512,
        width: int = 64,
        layers: int = 4,
        image_size: int = 56,
        seed: int = 0,
        tuning: Tuning = Tuning(),
        context: int = 1024,
    ) -> None:
        _refuse_qlora(tuning)
        _check_size(vocabulary, width, layers, multiple=16)
        check_range("backbone.image_size", image_size, 14, limits.TOWER_SIDE)
        if image_size % 14:
            raise InputError(f"backbone.image_size is {image_size}: give a multiple of 14")
        super().__init__("a tiny mPLUG-Owl2", tuning, context=context)
        self.texts, self.vocabulary, self.seed = texts, vocabulary, seed
        self.width, self.layers, self.image_size = width, layers, image_size

    def prepare(self) -> None:
        """Make the tokenizer, and the model with it."""
        if "processor" in self.__dict__:
            return
        made, self.processor = self._make()
        self.processor.aspect = self.aspect
        self._settle(made.config.positions_per_image)

    def _make(self) -> tuple[MplugOwl2ForConditionalGeneration, MplugOwl2Processor]:
        from lit_biqa.backbones.mplug_owl2 import tiny_mplug_owl2

        words = words_of(self.texts, self.root)
        return tiny_mplug_owl2(
            self.seed, words, self.vocabulary, self.width, self.layers, self.image_size
        )

    def _read(self) -> Any:
        return _held(self._make()[0], self.tuning.dtype)


class TinyQwenVL(QwenVL):
    """Qwen2.5-VL in a size that a CPU can train.

    Args:
        texts: see `TinyMplugOwl2`.
        vocabulary: most tokens of the vocabulary.
        width: width of decoder and tower, a multiple of 32.
        layers: number of decoder layers; the tower has 2.
        heads: number of decoder heads, each at least 8 wide; keys and values have half as many.
        seed: seed of the weights.
        tuning: trained parts, and how they are trained.
        min_pixels: see `QwenVL`.
        max_pixels: see `QwenVL`.
        context: most positions of a chat and its answer.

    Raises:
        InputError: for numbers out of range.
    """

    from_checkpoint = False

    def __init__(
        self,
        texts: Sequence[str] = (),
        vocabulary: int = 512,
        width: int = 64,
        layers: int = 4,
        heads: int = 4,
        seed: int = 0,
        tuning: Tuning = Tuning(),
        min_pixels: int = 3136,
        max_pixels: int = 112 * 112,
        context: int = 2048,
    ) -> None:
        _refuse_qlora(tuning)
        _check_size(vocabulary, width, layers, multiple=32)
        check_range("backbone.heads", heads, 2, width // 8)
        super().__init__("a tiny Qwen2.5-VL", tuning, min_pixels, max_pixels, context)
        self.texts, self.vocabulary, self.seed = texts, vocabulary, seed
        self.width, self.layers, self.heads = width, layers, heads

    def prepare(self) -> None:
        """Make tokenizer and image settings."""
        if "tokenizer" in self.__dict__:
            return
        from transformers import Qwen2VLImageProcessorPil

        self.tokenizer = byte_level_tokenizer(words_of(self.texts, self.root), self.vocabulary)
        size = {"shortest_edge": self.min_pixels, "longest_edge": self.max_pixels}
        self.image_processor = Qwen2VLImageProcessorPil(size=size)
        self._settle()

    def _read(self) -> nn.Module:
        from transformers import AutoModelForImageTextToText

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model: nn.Module = AutoModelForImageTextToText.from_config(self._config()).eval()
        return _held(model, self.tuning.dtype)

    def _config(self) -> Any:
        from transformers import Qwen2_5_VLConfig

        return Qwen2_5_VLConfig(
            text_config=self._text(), vision_config=self._vision(), **self._ids()
        )

    def _ids(self) -> dict[str, int]:
        return {
            f"{name}_token_id": self.tokenizer.convert_tokens_to_ids(f"<|{token}|>")
            for name, token in (
                *(("image", "image_pad"), ("video", "video_pad")),
                *(("vision_start", "vision_start"), ("vision_end", "vision_end")),
            )
        }

    def _text(self) -> dict[str, Any]:
        half = self.width // self.heads // 2
        sections = [half - 2 * (half * 3 // 8), half * 3 // 8, half * 3 // 8]
        return {
            "vocab_size": len(self.tokenizer),
            "hidden_size": self.width,
            "intermediate_size": 2 * self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads // 2,
            "max_position_embeddings": self.context,
            "tie_word_embeddings": False,
            "bos_token_id": None,
            "eos_token_id": self.end[0],
            "pad_token_id": self.end[1],
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": sections,
            },
        }

    def _vision(self) -> dict[str, Any]:
        return {
            "depth": 2,
            "hidden_size": self.width,
            "intermediate_size": 2 * self.width,
            "num_heads": 4,
            "out_hidden_size": self.width,
            "fullatt_block_indexes": [1],
            "window_size": 56,
        }


def _check_size(vocabulary: int, width: int, layers: int, multiple: int) -> None:
    """Refuse sizes that no such model has, before memory is taken for them."""
    check_range("backbone.vocabulary", vocabulary, 1, limits.VOCABULARY)
    check_range("backbone.layers", layers, 1, limits.TOWER_LAYERS)
    check_range("backbone.width", width, multiple, limits.TOWER_WIDTH)
    if width % multiple:
        raise InputError(f"backbone.width is {width}: give a multiple of {multiple}")


def byte_level_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """Tokenizer of Qwen's kind, trained on texts.

    Raises:
        InputError: if the vocabulary is too small for all bytes and special tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if vocabulary < 256 + len(_SPECIAL):
        raise InputError(f"vocabulary={vocabulary}: give at least {256 + len(_SPECIAL)} tokens")
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def words_of(files: Sequence[str], root: Path = Path()) -> Sequence[str]:
    """Prompts, and every string in the files: training texts for a tokenizer.

    Args:
        files: JSON or plain text, relative to the working directory or to ``root``.
        root: data root.

    Raises:
        InputError: if a file is absent or cannot be read.
    """
    # Repeated, so that words of prompts and levels become tokens before any others.
    texts = [*TEXTS, *(f"{QUALITY_OPENING} {level}." for level in LEVELS)] * 100
    for file in (find(name, root) for name in files):
        try:
            refuse_special(file)
            content = file.read_text(encoding="utf-8")
            texts += _strings(json.loads(content)) if file.suffix == ".json" else [content]
        except FileNotFoundError as error:
            raise InputError(
                f"{file}: no such file to train the tokenizer on: correct the backbone's `texts`, "
                "or name the folder of the data with data.root"
            ) from error
        except (OSError, ValueError) as error:
            raise InputError(f"{file}: no text to train the tokenizer on: {error}") from error
    return texts


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for item in inner for text in _strings(item)]


def _held(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Convert parameters to another precision, but not the buffers of rotary frequencies."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def _refuse_qlora(tuning: Tuning) -> None:
    if tuning.how == "qlora":
        raise InputError(
            "tuning.how=qlora reads weights from a checkpoint, and a tiny model has none: save it "
            "and name its folder as `pretrained` of its full-size class"
        )
