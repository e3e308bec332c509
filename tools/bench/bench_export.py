"""Speed of exported scorers: images per second of torch and of onnxruntime, from pixels to scores.

The scorer has EfficientNet-Lite0 with random weights, as that of ``quickstart_pretrained``. All
run by turns on one thread of the CPU, and a second is one of that thread.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from bench_meters import by_turns, one_thread, over, timed
from bench_rows import Row

from lit_biqa.backbones.image_towers import build_tower
from lit_biqa.backbones.transforms import Frame
from lit_biqa.export.int8 import quantise_weights
from lit_biqa.export.onnx_file import OnnxScorer
from lit_biqa.export.writing import export_scorer
from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import PrototypeHead
from lit_biqa.scoring.scorer import Scorer

Runs = dict[str, Callable[[torch.Tensor], torch.Tensor]]


def measure(small: bool) -> Iterator[Row]:
    """All rows.

    Args:
        small: a tiny network and one turn, to see that it runs.

    Raises:
        InputError: if the packages of the extra ``onnx`` are absent.
    """
    name, side, turns = ("test_efficientnet", 64, 1) if small else ("tf_efficientnet_lite0", 512, 3)
    scorer = random_scorer(name, side)
    with tempfile.TemporaryDirectory() as made, one_thread():
        whole, rounded = Path(made) / "whole.onnx", Path(made) / "int8.onnx"
        export_scorer(scorer, whole, "onnx")
        shutil.copy(whole, rounded)
        quantise_weights(rounded)
        yield Row("size of the file: float32", whole.stat().st_size / 1e6, "MB")
        yield Row("size of the file: int8", rounded.stat().st_size / 1e6, "MB")
        runs: Runs = {
            "torch": torch.no_grad()(scorer.score_pixels),
            "onnxruntime": OnnxScorer(whole, 1),
            "onnxruntime, int8": OnnxScorer(rounded, 1),
        }
        for batch in (1, 4):
            pixels = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))
            yield from rates(f"{side} px, {batch} at once", runs, pixels, turns)


def rates(name: str, runs: Runs, pixels: torch.Tensor, turns: int) -> Iterator[Row]:
    """Images per second of each runtime, and how much faster the others are than the first."""
    for run in runs.values():
        run(pixels)
    took = by_turns([partial(timed, partial(run, pixels)) for run in runs.values()], turns)
    for runtime, seconds in zip(runs, took, strict=True):
        rate = len(pixels) / statistics.median(seconds)
        yield Row(f"{name}: {runtime}", rate, "images/s")
    first = next(iter(runs))
    for runtime, seconds in list(zip(runs, took, strict=True))[1:]:
        yield Row(f"{name}: {first} over {runtime}", over(took[0], seconds))


def random_scorer(architecture: str, side: int) -> Scorer:
    """A scorer of four stages of a network of timm, fitted to noise."""
    frame = Frame(side, "native", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    encoder = {"kind": "timm_stages", "architecture": architecture, "dim": 384}
    encoder |= {"precision": "float32", "stages": [0, 1, 2, 3], "frame": asdict(frame)}
    torch.manual_seed(0)
    head = PrototypeHead(384, HeadSettings(256, 500, 240, temperature=0.15, finetune=False))
    head.fit(torch.randn(600, 384), torch.linspace(1, 5, 600))
    return Scorer(build_tower(encoder), head, encoder).eval().requires_grad_(False)
