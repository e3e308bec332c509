"""Models of real and of tiny sizes, with random weights that are made where they are used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bench_steps import Endless

from lit_biqa.backbones.mplug_owl2 import MplugOwl2Config, MplugOwl2ForConditionalGeneration
from lit_biqa.backbones.tiny_chat import TinyMplugOwl2
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.planning.architectures import ARCHITECTURES

VOCABULARY = 2048  # of the tokenizers of Qwen2.5-VL here

_TINY: dict[str, Any] = {
    "text_config": {
        "vocab_size": 2304,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "vision_config": {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 4,
        "fullatt_block_indexes": [1],
        "window_size": 56,
        "out_hidden_size": 32,
    },
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class QwenSizes:
    """Sizes of a Qwen2.5-VL.

    Attributes:
        architecture: as in `ARCHITECTURES`; the tokenizer may know fewer tokens than it has.
        rope_theta: base of the decoder's rotary frequencies.
        sections: of them for time, height and width.
    """

    architecture: dict[str, Any]
    rope_theta: float = 1_000_000.0
    sections: tuple[int, int, int] = (16, 24, 24)

    def text(self) -> dict[str, Any]:
        """Settings of the decoder, as transformers names them."""
        sizes: dict[str, Any] = self.architecture["text_config"]
        return sizes | {
            "tie_word_embeddings": self.architecture["tie_word_embeddings"],
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": self.rope_theta,
                "mrope_section": list(self.sections),
            },
        }

    def vision(self) -> dict[str, Any]:
        """Settings of the vision tower."""
        sizes: dict[str, Any] = self.architecture["vision_config"]
        return sizes


QWEN_3B = QwenSizes(ARCHITECTURES["Qwen/Qwen2.5-VL-3B-Instruct"])
QWEN_7B = QwenSizes(ARCHITECTURES["Qwen/Qwen2.5-VL-7B-Instruct"])
QWEN_TINY = QwenSizes(_TINY, sections=(2, 1, 1))


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
        return self.sizes.vision()


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
