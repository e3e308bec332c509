"""Models of real and of tiny sizes, with random weights that are made where they are used."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from bench_steps import Endless

from lit_biqa.backbones.mplug_owl2 import MplugOwl2Config, MplugOwl2ForConditionalGeneration
from lit_biqa.backbones.tiny_chat import TinyMplugOwl2
from lit_biqa.backbones.tuning import Tuning

VOCABULARY = 2048  # of the tokenizers of Qwen2.5-VL here

_TOWER: dict[str, Any] = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "window_size": 112,
}
_TINY_TOWER: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 4,
    "fullatt_block_indexes": [1],
    "window_size": 56,
}


@dataclass(frozen=True)
class QwenSizes:
    """Sizes of a Qwen2.5-VL.

    Attributes:
        hidden: width of the decoder.
        intermediate: width inside its feed-forward layers.
        layers: of it.
        heads: of it.
        key_value_heads: of it.
        vocabulary: of its embedding and head; the tokenizer may know fewer tokens.
        tied: whether these two are the same weights.
        rope_theta: base of its rotary frequencies.
        sections: of them for time, height and width.
        tower: the vision tower's own settings.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int
    tied: bool
    rope_theta: float = 1_000_000.0
    sections: tuple[int, int, int] = (16, 24, 24)
    tower: dict[str, Any] = field(default_factory=lambda: _TOWER)

    def text(self) -> dict[str, Any]:
        """The same as transformers names them."""
        return {
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value_heads,
            "tie_word_embeddings": self.tied,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": self.rope_theta,
                "mrope_section": list(self.sections),
            },
        }


# Source: the configurations of Qwen/Qwen2.5-VL-3B-Instruct and -7B-Instruct (Bai et al., arXiv
# 2502.13923).
QWEN_3B = QwenSizes(2048, 11_008, 36, 16, 2, 151_936, tied=True)
QWEN_7B = QwenSizes(3584, 18_944, 28, 28, 4, 152_064, tied=False)
QWEN_TINY = QwenSizes(32, 64, 2, 4, 2, 2304, tied=True, sections=(2, 1, 1), tower=_TINY_TOWER)


class SizedQwen(Endless):
    """A Qwen2.5-VL of given sizes; the tokenizer is a small one.

    Args:
        sizes: of the model.
        device: that the weights are made on, in the precision of the tuning.
        words: file that the tokenizer is trained on.
        tuning: trained parts, and how they are trained.
        max_pixels: of an image.
    """

    def __init__(
        self,
        sizes: QwenSizes,
        device: torch.device,
        words: Path,
        tuning: Tuning,
        max_pixels: int,
    ) -> None:
        super().__init__([str(words)], VOCABULARY, tuning=tuning, max_pixels=max_pixels)
        self.sizes, self.made_on = sizes, device

    def _read(self) -> Any:
        from transformers import AutoModelForImageTextToText

        make = AutoModelForImageTextToText.from_config
        with self.made_on, torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self.endless(make(self._config(), dtype=self.tuning.dtype).eval())

    def _text(self) -> dict[str, Any]:
        return super()._text() | self.sizes.text()

    def _vision(self) -> dict[str, Any]:
        return self.sizes.tower | {"out_hidden_size": self.sizes.hidden}


class SizedOwl(TinyMplugOwl2):
    """mPLUG-Owl2 in its real size, or a tiny one; the tokenizer is that of a tiny one.

    Args:
        real: whether it has the real size.
        device: that the weights are made on, in the precision of the tuning.
        words: file that the tokenizer is trained on.
        tuning: trained parts, and how they are trained.
    """

    def __init__(self, real: bool, device: torch.device, words: Path, tuning: Tuning) -> None:
        config = MplugOwl2Config()
        vocabulary, side = (config.vocab_size, config.vision.image_size) if real else (1024, 28)
        super().__init__([str(words)], vocabulary, 32, 1, side, tuning=tuning)
        self.real, self.made_on = real, device

    def prepare(self) -> None:
        """See `TinyMplugOwl2`, which is where the tokenizer comes from."""
        super().prepare()
        if self.real:
            self._settle(MplugOwl2Config().positions_per_image)

    def _read(self) -> Any:
        make = MplugOwl2ForConditionalGeneration._from_config
        config = MplugOwl2Config() if self.real else self._make()[0].config
        with self.made_on, torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return make(config, dtype=self.tuning.dtype).eval()
