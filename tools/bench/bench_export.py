"""Speed of exported scorers: images per second of torch and of onnxruntime, from pixels to scores.

The scorer has EfficientNet-Lite0 with random weights, as that of ``quickstart_pretrained``. All
run by turns on one thread of the CPU, and a second is one of that thread. Given a tested run, its
scorer is exported instead, and scores the images of the test in each runtime.
"""

from __future__ import annotations

import math
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from bench_meters import by_turns, one_thread, over, timed
from bench_rows import Row

from lit_biqa.backbones.image_towers import build_tower
from lit_biqa.backbones.transforms import Frame
from lit_biqa.data.images import open_image
from lit_biqa.evaluation.metrics import plcc, srcc
from lit_biqa.export.int8 import quantise_weights
from lit_biqa.export.onnx_file import OnnxScorer
from lit_biqa.export.writing import export_scorer
from lit_biqa.html_report.rows import read_tested
from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import PrototypeHead
from lit_biqa.scoring.scorer import Scorer, load_scorer

Runs = dict[str, Callable[[torch.Tensor], torch.Tensor]]


def measure(small: bool, run: Path | None) -> Iterator[Row]:
    """Rows of speed, or of the accuracy of a run's scorer.

    Args:
        small: a tiny network and one turn, to see that it runs.
        run: folder of a tested run with a scorer; ``None`` for speed.

    Raises:
        InputError: if the packages of the extra ``onnx`` are absent, or the run holds no scorer.
    """
    return speed(small) if run is None else accuracy(run)


def accuracy(run: Path) -> Iterator[Row]:
    """Correlations of each runtime on the images that a run has tested, and their distance."""
    scorer = load_scorer(run)
    rows = [row for row in read_tested(run) if row.path is not None and math.isfinite(row.mos)]
    pixels = [scorer.transform(open_image(row.path)) for row in rows if row.path is not None]
    mos = torch.tensor([row.mos for row in rows])
    with exported(scorer) as (runs, _):
        scores = {
            name: torch.cat([score(each[None]) for each in pixels]) for name, score in runs.items()
        }
    for name, found in scores.items():
        yield Row(f"{name}: SRCC of {len(rows)} images", srcc(found.numpy(), mos.numpy()))
        yield Row(f"{name}: PLCC", plcc(found.numpy(), mos.numpy()))
        away = (found - scores["torch"]).abs().max().item()
        yield Row(f"{name}: largest difference from torch", away)


def speed(small: bool) -> Iterator[Row]:
    """Sizes of the files, and images per second."""
    name, side, turns = ("test_efficientnet", 64, 1) if small else ("tf_efficientnet_lite0", 512, 3)
    scorer = random_scorer(name, side)
    with exported(scorer) as (runs, sizes), one_thread():
        for weights, size in sizes.items():
            yield Row(f"size of the file: {weights}", size / 1e6, "MB")
        for batch in (1, 4):
            pixels = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))
            yield from rates(f"{side} px, {batch} at once", runs, pixels, turns)


@contextmanager
def exported(scorer: Scorer) -> Iterator[tuple[Runs, dict[str, int]]]:
    """A scorer in each runtime, and the bytes of its files, by their weights."""
    with tempfile.TemporaryDirectory() as made:
        whole, rounded = Path(made) / "whole.onnx", Path(made) / "int8.onnx"
        export_scorer(scorer, whole, "onnx")
        shutil.copy(whole, rounded)
        quantise_weights(rounded)
        runs: Runs = {
            "torch": torch.no_grad()(scorer.score_pixels),
            "onnxruntime": OnnxScorer(whole, 1),
            "onnxruntime, int8": OnnxScorer(rounded, 1),
        }
        yield runs, {"float32": whole.stat().st_size, "int8": rounded.stat().st_size}


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
