"""A tiny `TimmChat` of random weights: a network of timm in a folder, and a small decoder."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path

import torch

from lit_biqa.backbones.small_decoder import SmallDecoder
from lit_biqa.backbones.timm_chat import TimmChat
from lit_biqa.backbones.tuning import Tuning

NETWORK = "test_efficientnet"  # of a hundred thousand weights


@cache
def network_folder() -> Path:
    """Folder of an image network, as timm saves it."""
    import timm
    from safetensors.torch import save_file

    folder = Path(tempfile.mkdtemp())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(NETWORK)
    save_file(network.state_dict(), folder / "model.safetensors", {"format": "pt"})
    pretrained = {"mean": [0.5] * 3, "std": [0.5] * 3, "num_classes": 1000}
    pretrained |= {"classifier": "classifier", "first_conv": "conv_stem"}
    settings = {"architecture": NETWORK, "pretrained_cfg": pretrained}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


class TinyTimmChat(TimmChat):
    """`TimmChat` with five positions an image and a decoder of 64 numbers."""

    def __init__(
        self,
        layers: int = 2,
        vocabulary: int = 401,
        tuning: Tuning = Tuning(),
        context: int = 1024,
    ) -> None:
        language = SmallDecoder(vocabulary=vocabulary, width=64, layers=layers)
        super().__init__(
            image=str(network_folder()),
            language=language,
            tuning=tuning,
            size=64,
            grid=2,
            precision="float32",
            context=context,
        )

    def load(self) -> None:
        """Load, and standardise by features of noise."""
        super().load()
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randn(4, 3, 64, 64, generator=generator)
        with torch.no_grad():
            self.model.projector.observe(self.model.tower(pixels))
