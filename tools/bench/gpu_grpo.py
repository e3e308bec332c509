"""Steps of GRPO on a Qwen2.5-VL of real size with LoRA: ours by phases, and TRL's beside it.

One side is measured after the other, so that each has the device to itself. TRL reads the same
weights from a folder: twice as many gigabytes are free there as the model has billion weights.
"""

from __future__ import annotations

import gc
import importlib.util
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from bench_data import made_up_words
from bench_fits import Precision
from bench_grpo import phases
from bench_meters import DeviceMeter
from bench_rali import make_images
from bench_rows import Row
from bench_steps import Ours, Steps
from bench_trl import Theirs
from gpu_models import QWEN_3B, QWEN_7B, QWEN_TINY, QwenSizes, SizedQwen

from lit_biqa.backbones.tuning import Tuning

WITHOUT_TRL = "TRL is not installed (pip install 'lit_biqa[bench]')"
PRECISION: Precision = "bf16-mixed"


@dataclass(frozen=True)
class Plan:
    """Sizes of the measurement.

    Attributes:
        sizes: of the model.
        rank: of LoRA, beside the decoder; its updates are float32, all else bfloat16.
        alpha: of LoRA.
        max_pixels: of an image; by default it takes 252 tokens, and a prompt 402.
        prompts: of a step.
        group: completions of a prompt.
        budget: tokens of each.
        rows_at_once: completions in one forward and backward pass.
        turns: that each side is timed for, each in the second of two steps.
    """

    sizes: QwenSizes
    rank: int = 128
    alpha: float = 256.0
    max_pixels: int = 504 * 392
    prompts: int = 2
    group: int = 8
    budget: int = 256
    rows_at_once: int = 4
    turns: int = 3

    def measure(self, device: torch.device, folder: Path) -> Iterator[Row]:
        """All rows, one by one; images, words and weights are written to the folder."""
        words = made_up_words(folder, 2000)
        steps = Steps(make_images(folder, self.prompts), self.group, self.budget, self.rows_at_once)

        def spent(kind: type[Ours] | type[Theirs]) -> Spent:
            try:
                model = self.model(device, words)
                return timed(kind(model, steps, folder, device.type, PRECISION), self.turns, device)
            except torch.OutOfMemoryError:
                return Spent(why="out of memory")

        ours = spent(Ours)
        yield from self.rows("ours", ours)
        release(device)
        theirs = spent(Theirs) if trl_is_there() else Spent(why=WITHOUT_TRL)
        yield from self.rows("TRL", theirs)
        name = "completions per second, ours over TRL"
        if ours.seconds and theirs.seconds:
            yield Row(name, theirs.second / ours.second)
        else:
            yield Row(name, None, why=ours.why or theirs.why)

    def model(self, device: torch.device, words: Path) -> SizedQwen:
        """Without its weights."""
        tuning = Tuning(
            "lora", parts=("language",), precision="bfloat16", rank=self.rank, alpha=self.alpha
        )
        return SizedQwen(self.sizes, device, words, tuning, self.max_pixels)

    def rows(self, who: str, spent: Spent) -> Iterator[Row]:
        """Seconds, tokens per second and peak memory of one side."""
        if not spent.seconds:
            measured = (("step", "s"), ("completions", "tokens/s"), ("peak memory", "GiB"))
            yield from (Row(f"{who}: {what}", None, unit, why=spent.why) for what, unit in measured)
            return
        tokens = self.prompts * self.group * self.budget
        yield Row(f"{who}: step", spent.second, "s")
        yield from (Row(f"{who}: {row.what}", row.figure, row.unit) for row in spent.phases)
        yield Row(f"{who}: completions", tokens / spent.second, "tokens/s")
        yield Row(f"{who}: peak memory", spent.peak / 2**30, "GiB")


@dataclass(frozen=True)
class Spent:
    """What steps of one side took.

    Attributes:
        seconds: of a step in each turn; none if it was not measured.
        peak: most bytes of the device in any.
        phases: seconds of the last turn by phases, of ours alone.
        why: it was not measured.
    """

    seconds: tuple[float, ...] = ()
    peak: int = 0
    phases: tuple[Row, ...] = ()
    why: str = ""

    @property
    def second(self) -> float:
        """The median."""
        return statistics.median(self.seconds)


PLAN_3B, PLAN_7B = Plan(QWEN_3B), Plan(QWEN_7B)
SMALL = Plan(QWEN_TINY, 2, 4.0, 56 * 56, group=2, budget=4, rows_at_once=2, turns=1)


def timed(side: Ours | Theirs, turns: int, device: torch.device) -> Spent:
    """What the second of two steps takes, so many times; the first allocates."""
    meters = [DeviceMeter(device) for _ in range(turns)]
    parts: tuple[Row, ...] = ()
    for meter in meters:
        release(device)  # TRL's model of the turn before
        parts = turn(side, meter)
    seconds = tuple(meter.seconds for meter in meters)
    return Spent(seconds, max(meter.peak for meter in meters), parts)


def turn(side: Ours | Theirs, meter: DeviceMeter) -> tuple[Row, ...]:
    """Do two steps, the second within the meter; gives its seconds by phases, of ours alone."""
    trainer = side.fit(2, meter)
    return tuple(phases("last step", trainer)) if isinstance(side, Ours) else ()


def trl_is_there() -> bool:
    """Whether TRL can be imported."""
    return importlib.util.find_spec("trl") is not None


def release(device: torch.device) -> None:
    """Give the device back what nobody holds any longer."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
