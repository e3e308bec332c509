"""A small decoder of random weights, with a tokenizer trained on texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lit_biqa import limits
from lit_biqa.backbones.tiny_chat import byte_level_tokenizer, words_of
from lit_biqa.types import InputError, check_range


@dataclass(frozen=True)
class SmallDecoder:
    """A Llama decoder of random weights, with a tokenizer that is trained on texts.

    Attributes:
        texts: files, JSON or plain text, that the tokenizer is trained on, relative to the working
            directory or to ``data.root``; by default the words of prompts.
        vocabulary: most tokens of the vocabulary.
        width: width of the decoder, a multiple of 16 times ``heads``.
        layers: number of layers.
        heads: number of heads, even; keys and values have half as many.

    Raises:
        InputError: for numbers out of range.
    """

    texts: Sequence[str] = ()
    vocabulary: int = 2000
    width: int = 256
    layers: int = 4
    heads: int = 4

    def __post_init__(self) -> None:
        check_range("language.vocabulary", self.vocabulary, 1, limits.VOCABULARY)
        check_range("language.layers", self.layers, 1, limits.TOWER_LAYERS)
        check_range("language.heads", self.heads, 2, limits.TOWER_WIDTH)
        check_range("language.width", self.width, 16 * self.heads, limits.TOWER_WIDTH)
        if self.width % (16 * self.heads) or self.heads % 2:
            raise InputError(
                f"language.width is {self.width} and language.heads {self.heads}: give an even "
                "number of heads, and a multiple of 16 times that as width"
            )

    def tokenizer(self, root: Path) -> Any:
        """Tokenizer of transformers, trained on the texts.

        Args:
            root: data root.

        Raises:
            InputError: if a file is absent, or the vocabulary is too small.
        """
        return byte_level_tokenizer(words_of(self.texts, root), self.vocabulary)

    def build(self, tokenizer: Any, context: int, seed: int, dtype: torch.dtype) -> Any:
        """Causal language model of transformers.

        Args:
            tokenizer: its tokenizer.
            context: most positions.
            seed: seed of the weights.
            dtype: data type of the weights.
        """
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=self.width,
            intermediate_size=3 * self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads // 2,
            max_position_embeddings=context,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(config)
        for parameter in model.parameters():  # not the buffers of rotary frequencies
            parameter.data = parameter.data.to(dtype)
        return model
