"""Tiny models, batches and readouts to study."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.readouts import levels
from lit_biqa.rollout.engine import Sampling
from lit_biqa.types import Batch, Sample, Samples

FAMILIES = (TinyMplugOwl2, TinyQwenVL)
GREEDY = Sampling(temperature=0.0, budget=6)
NAMES = ("a.png", "b.png", "c.png")
TEXTS = ("It is sharp.", "The image is blurry, noisy and dark; the lighting is bad.", "Fine.")

ONE_PASS = levels.OnePass(sampling=GREEDY, at_once=2)
TWO_PASS = levels.TwoPass(sampling=GREEDY, at_once=2)
DESCRIBED = levels.FromDescription(at_once=2)
LOGITS = levels.LevelLogits(at_once=2)
SPOKEN = levels.GeneratedWord(sampling=GREEDY, at_once=2)


def opinionated(family: type[TinyMplugOwl2] | type[TinyQwenVL]) -> VisionLanguageModel:
    """A model whose attention is far from uniform and whose layers differ."""
    model = family(width=32, layers=4)
    model.load()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "q_proj" in name or "mlp" in name:
                weight.mul_(50 if "q_proj" in name else 20)
    return model


def batch(model: VisionLanguageModel, statuses: tuple[str, ...] = ("ok", "ok", "ok")) -> Batch:
    """Noise of three shapes."""
    noise = np.random.default_rng(0)
    sizes = ((80, 60), (56, 56), (60, 100))
    images = [Image.fromarray(noise.integers(0, 256, (*size, 3), np.uint8)) for size in sizes]
    return Batch(
        pixels=[model.image_transform(image) for image in images],
        samples=Samples(
            Sample("own", "all", row, name, None, mos)
            for row, (name, mos) in enumerate(zip(NAMES, (1.0, 3.0, 5.0), strict=True))
        ),
        mos=torch.tensor([1.0, 3.0, 5.0]),
        std=torch.full((3,), torch.nan),
        index=torch.arange(3),
        dataset=["own"] * 3,
        split=["all"] * 3,
        name=list(NAMES),
        text=list(TEXTS),
        prompt=[()] * 3,
        conclusion=[""] * 3,
        status=list(statuses),
    )
