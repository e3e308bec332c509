"""RALI with the paper's encoder: what scoring adds to it, files to scores, images per second."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bench_rali
import torch
from bench_meters import DeviceMeter
from bench_rali import make_images, reading, scoring
from bench_rows import Row

from lit_biqa.backbones.clip import OpenClip
from lit_biqa.backbones.tiny import TinyClip
from lit_biqa.scoring.head_settings import HeadSettings


@dataclass(frozen=True)
class Plan:
    """Sizes of the measurement.

    Attributes:
        encoder: name of an open_clip architecture; empty for a tiny one.
        precision: of the encoder.
        batches: sizes of the batches that are scored; what scoring adds to the encoder is measured
            for all but the first, and files are read in the second of them.
        repeats: passes over each.
        workers: processes that read images, one run for each number.
        images: that are made, of 512 x 384 pixels.
        files: that each run reads: these images, again and again.
        judged: whether speed has limits.
    """

    encoder: str = "ViT-L-14-336-quickgelu"
    precision: str = "bfloat16"
    batches: tuple[int, ...] = (1, 16, 64)
    repeats: int = 30
    workers: tuple[int, ...] = (0, 2, max(4, (os.cpu_count() or 4) - 2))
    images: int = 48
    files: int = 4096
    judged: bool = True

    def measure(self, device: torch.device, folder: Path) -> Iterator[Row]:
        """All rows, one by one; images are written to the folder."""
        files = make_images(folder, self.images)
        plan = self.on(device)
        yield from throughput(plan, self.batches)
        yield from scoring(plan)
        yield from reading(plan, files)

    def on(self, device: torch.device) -> bench_rali.Plan:
        """What `bench_rali` measures."""
        tiny = HeadSettings(pca=16, prototypes=20, buckets=10, steps=5)
        return bench_rali.Plan(
            "RALI",
            device,
            OpenClip(self.encoder, None) if self.encoder else TinyClip(dim=32, width=8, size=32),
            HeadSettings() if self.encoder else tiny,
            getattr(torch, self.precision),
            batches=self.batches[1:],
            repeats=self.repeats,
            workers=self.workers,
            files=self.files,
            cost=1.03 if self.judged else None,
            busy=0.9 if self.judged else None,
        )


PLAN = Plan()
SMALL = Plan("", batches=(1, 2), repeats=2, workers=(0,), images=2, files=4, judged=False)


def throughput(plan: bench_rali.Plan, batches: tuple[int, ...]) -> Iterator[Row]:
    """Images per second and peak memory, pixels lying on the device already."""
    scorer = plan.scorer()
    for batch in batches:
        pixels = plan.pixels(batch)
        scorer.score_pixels(pixels)  # the first pass allocates
        with (meter := DeviceMeter(plan.device)):
            for _ in range(plan.repeats):
                scorer.score_pixels(pixels)
        rate = batch * plan.repeats / meter.seconds
        yield Row(f"{plan.name}: pixels to scores, batch {batch}", rate, "images/s")
        yield Row(f"{plan.name}: peak memory, batch {batch}", meter.peak / 2**30, "GiB")
