"""Scorers, services and applications for the tests of the server."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lit_biqa.backbones.tiny import TinyClip
from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import PrototypeHead
from lit_biqa.scoring.scorer import Scorer, load_scorer, write_scorer


def tiny_scorer(folder: Path) -> Scorer:
    """A scorer of random weights whose head is fitted to random scores."""
    encoder = TinyClip(dim=8, width=16, size=32, context=16)
    encoder.load()
    head = PrototypeHead(8, HeadSettings(pca=4, prototypes=6, buckets=3, steps=0))
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(40, 8, generator=generator)
    head.fit(embeddings, 1 + 4 * torch.rand(40, generator=generator))
    file = folder / "scorer.safetensors"
    write_scorer(file, encoder.image_tower.state_dict(), head, encoder.settings())
    return load_scorer(file)


def picture_bytes(seed: int, form: str = "PNG", side: int = 48) -> bytes:
    """A picture of noise as a file."""
    noise = np.random.default_rng(seed).integers(0, 256, (side, side + 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, form)
    return stream.getvalue()
