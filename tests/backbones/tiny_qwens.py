"""Qwen2-VL and Qwen3-VL beside `TinyQwenVL`, with random weights."""

from __future__ import annotations

from typing import Any

from lit_biqa.backbones.tiny_chat import TinyQwenVL


class TinyQwen2VL(TinyQwenVL):
    """Qwen2-VL: a tower whose layers all see the whole image."""

    def _config(self) -> Any:
        from transformers import Qwen2VLConfig

        vision = {
            "depth": 2,
            "embed_dim": self.width,
            "hidden_size": self.width,
            "num_heads": 4,
            "mlp_ratio": 2,
        }
        return Qwen2VLConfig(text_config=self._text(), vision_config=vision, **self._ids())


class TinyQwen3VL(TinyQwenVL):
    """Qwen3-VL: patches of 16 pixels, features of two layers of the tower for the decoder's first.

    Heads of the decoder are wider than its width over their number, as in Qwen3-VL-2B.
    """

    def prepare(self) -> None:
        """See `TinyQwenVL`."""
        super().prepare()
        self.image_processor.patch_size = 16

    def _config(self) -> Any:
        from transformers import Qwen3VLConfig

        vision = {
            "depth": 3,
            "hidden_size": self.width,
            "intermediate_size": 2 * self.width,
            "num_heads": 4,
            "out_hidden_size": self.width,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0, 1],
        }
        text = self._text() | {"head_dim": 24}
        text["rope_parameters"] |= {"mrope_section": [4, 4, 4], "mrope_interleaved": True}
        return Qwen3VLConfig(text_config=text, vision_config=vision, **self._ids())
