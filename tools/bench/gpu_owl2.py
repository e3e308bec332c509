"""Supervised fine-tuning of mPLUG-Owl2 in its real size, with LoRA in bfloat16.

Tokens are those of rows: image positions count, padding does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from bench_data import conversations, made_up_words
from bench_fits import Ours
from bench_meters import DeviceMeter
from bench_rows import Row
from bench_sft import counted
from gpu_models import SizedOwl

from lit_biqa.backbones.tuning import Tuning


@dataclass(frozen=True)
class Plan:
    """Sizes of the measurement.

    Attributes:
        real: whether the model has its real size.
        rank: of LoRA, beside all parts.
        alpha: of LoRA.
        words: that are made up; the tokenizer learns its vocabulary from them.
        rows: of an epoch.
        batch: rows of a step.
    """

    real: bool = True
    rank: int = 64
    alpha: float = 128.0
    words: int = 40_000
    rows: int = 96
    batch: int = 8

    def measure(self, device: torch.device, folder: Path) -> Iterator[Row]:
        """Both rows, of a second epoch; words and images are written to the folder."""
        words = made_up_words(folder, self.words)
        tuning = Tuning("lora", precision="bfloat16", rank=self.rank, alpha=self.alpha)
        backbone = SizedOwl(self.real, device, words, tuning)
        backbone.load()
        ours = Ours(backbone, conversations(words, self.rows), self.batch, "bf16-mixed")
        tokens = counted(ours)
        ours.fit(2, meter := DeviceMeter(device))
        yield Row("training", tokens / meter.seconds, "tokens/s")
        yield Row("peak memory", meter.peak / 2**30, "GiB")


PLAN = Plan()
SMALL = Plan(False, 2, 4.0, words=200, rows=6, batch=2)
