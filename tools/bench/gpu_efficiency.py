"""RALI beside a Qwen2.5-VL that reasons, as in figure 6 of Reasoning as Representation.

It is `lit_biqa analyse efficiency` with random weights, of which no answer ends before its budget.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gpu_rali
import torch
from bench_data import made_up_words
from bench_rali import make_images
from bench_rows import Row
from bench_steps import QUESTION
from gpu_models import QWEN_7B, QWEN_TINY, QwenSizes, SizedQwen
from PIL import Image
from torch import Tensor

from lit_biqa.analysis import efficiency
from lit_biqa.analysis.efficiency import MODEL, SCORER, Cost, Runner
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.rollout.engine import Sampling, generate
from lit_biqa.scoring.scorer import Scorer
from lit_biqa.types import Chat, ask


@dataclass(frozen=True)
class Plan:
    """Sizes of the measurement.

    Attributes:
        sizes: of the model that reasons, in bfloat16.
        scorer: encoder and precision of RALI.
        batches: images that are scored at once, as in the figure.
        repeats: timed repetitions of each.
        budget: tokens of an answer.
        max_pixels: of an image that the model reads; by default it takes 252 tokens.
    """

    sizes: QwenSizes = QWEN_7B
    scorer: gpu_rali.Plan = gpu_rali.PLAN
    batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    repeats: int = 3
    budget: int = 256
    max_pixels: int = 504 * 392

    def measure(self, device: torch.device, folder: Path) -> Iterator[Row]:
        """All rows; images and words are written to the folder."""
        files = make_images(folder, max(self.batches))
        tuning = Tuning(precision="bfloat16")
        model = SizedQwen(self.sizes, device, made_up_words(folder, 2000), tuning, self.max_pixels)
        model.load()
        scorer = self.scorer.on(device).scorer()
        pictures = [Image.open(file) for file in files]
        dtype = getattr(torch, self.scorer.precision)
        pixels = [scorer.transform(picture).to(dtype) for picture in pictures]
        chats = [ask(QUESTION, model.image_transform(picture)) for picture in pictures]
        runners = [
            Runner(SCORER, scorer, partial(score, scorer, pixels, device)),
            Runner(MODEL, model, partial(reason, model, chats, Sampling(budget=self.budget))),
        ]
        yield from rows(efficiency.measure(runners, self.batches, self.repeats, device))


PLAN = Plan()
SMALL = Plan(QWEN_TINY, gpu_rali.SMALL, (1, 2), 1, 3, 56 * 56)


@torch.inference_mode()
def score(scorer: Scorer, pixels: list[Tensor], device: torch.device, count: int) -> int:
    """Score the first images; no token is written."""
    scorer.score_pixels([image.to(device) for image in pixels[:count]]).cpu()
    return 0


def reason(model: SizedQwen, chats: list[Chat], sampling: Sampling, count: int) -> int:
    """Answer about the first images, all at once; gives the number of tokens."""
    return sum(len(some[0].ids) for some in generate(model, chats[:count], 1, sampling))


def rows(costs: list[Cost]) -> Iterator[Row]:
    """Time and memory of both, and what share of the model's the scorer takes."""
    for ratio in efficiency.ratios(costs):
        batch = f"batch {ratio.batch}"
        for cost in (cost for cost in costs if cost.batch == ratio.batch):
            who = "RALI" if cost.name == SCORER else cost.name
            seconds = statistics.median(cost.seconds)
            yield Row(f"{batch}: {who}, time", 1000 * seconds, "ms/image")
            yield Row(f"{batch}: {who}, memory", cost.memory, "GiB")
        yield Row(f"{batch}: time, RALI over the reasoning model", ratio.time)
        yield Row(f"{batch}: memory, RALI over the reasoning model", ratio.memory)
