"""Speed of supervised fine-tuning: against transformers' Trainer, and of the two-pass test.

Weights are random, since no speed depends on them. What is compared runs by turns, and a ratio is
the median over the turns. On a CPU all runs on one thread and a second is one of that thread, so
that other work on the machine shows little. Tokens are those of rows: image positions count,
padding does not.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import torch
from bench_data import conversations, encoded, keywords, made_up_words
from bench_fits import Ours, Theirs
from bench_meters import Allocated, Clock, by_turns, one_thread, over, timed
from bench_rows import Row

from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.data.dataset import collate
from lit_biqa.readouts.levels import TwoPass, concluding
from lit_biqa.rollout.engine import Sampling
from lit_biqa.tasks import pixels_of
from lit_biqa.types import Batch, InputError, ask


@dataclass(frozen=True)
class Plan:
    """Sizes of the measurement.

    Attributes:
        vocabulary: of mPLUG-Owl2, in its real size; Qwen2.5-VL's is small, so that the head takes
            no larger a share of its work than in a model of real size.
        width: of the models.
        layers: of their decoders.
        image_size: side of mPLUG-Owl2's images.
        words: that are made up; tokenizers learn their vocabulary from them.
        rows: of an epoch.
        batch: rows of a step.
        turns: that each side is timed for.
        images: of the two-pass test, all at once.
        budget: tokens of a description there.
        judged: whether speed has limits.
    """

    vocabulary: int = 32_000
    width: int = 256
    layers: int = 6
    image_size: int = 112
    words: int = 40_000
    rows: int = 48
    batch: int = 8
    turns: int = 3
    images: int = 16
    budget: int = 32
    judged: bool = True


SMALL = Plan(2048, 32, 2, 28, words=200, rows=6, batch=2, turns=1, images=2, budget=3, judged=False)


def measure(small: bool) -> Iterator[Row]:
    """All rows, one by one.

    Args:
        small: very little of everything, to see that it runs.

    Raises:
        InputError: if accelerate is not there, without which transformers has no Trainer.
    """
    if importlib.util.find_spec("accelerate") is None:
        raise InputError(
            "transformers' Trainer needs accelerate: pip install 'lit_biqa[bench]', or accelerate"
        )
    plan = SMALL if small else Plan()
    with tempfile.TemporaryDirectory() as made, one_thread():
        folder = Path(made)
        words = made_up_words(folder, plan.words)
        rows = conversations(words, plan.rows)
        owl = TinyMplugOwl2([str(words)], plan.vocabulary, plan.width, plan.layers, plan.image_size)
        qwen = TinyQwenVL([str(words)], 2048, width=plan.width, layers=plan.layers)
        for backbone in (owl, qwen):
            backbone.load()
            ours = Ours(backbone, rows, plan.batch)
            theirs = Theirs(ours, deepcopy(backbone), folder)
            yield from two_pass(plan, ours, theirs)  # first, while no description ends early
            yield from training(plan, ours, theirs)


def training(plan: Plan, ours: Ours, theirs: Theirs) -> Iterator[Row]:
    """Tokens per second and peak memory of whole epochs."""
    count = sum(p.numel() for p in ours.backbone.parameters())
    name = f"{type(ours.backbone).__name__}, {count / 1e6:.3g} million parameters"
    items = [ours.rows[row] for row in range(plan.batch)]
    apart = abs(ours.loss(items) - theirs.loss(items))
    yield Row(f"{name}: losses of one batch, difference", apart, "nats", 1e-4)
    peaks = [grown(side) for side in (ours, theirs)]  # which also warms both up
    yield Row(f"{name}: memory of training, ours", peaks[0] / 2**20, "MiB")
    yield Row(f"{name}: memory of training, Trainer", peaks[1] / 2**20, "MiB")
    yield Row(f"{name}: memory of training, ours over Trainer", peaks[0] / peaks[1], "", 1.0)
    tokens = counted(ours)
    took = by_turns([partial(epoch, ours), partial(epoch, theirs)], plan.turns)
    yield Row(f"{name}: training, ours", tokens / statistics.median(took[0]), "tokens/s")
    yield Row(f"{name}: training, Trainer", tokens / statistics.median(took[1]), "tokens/s")
    least = 1.2 if plan.judged else None
    yield Row(f"{name}: training, ours over Trainer", over(took[1], took[0]), "", least, least=True)


def counted(ours: Ours) -> int:
    """Tokens of all rows."""
    rows = (ours.rows[row] for row in range(len(ours.rows)))
    return sum(encoded(ours.backbone, [row]).mask.numel() for row in rows)


def epoch(side: Ours | Theirs) -> float:
    """Seconds of an epoch, reading included."""
    side.fit(1, clock := Clock())
    return clock.seconds


def grown(side: Ours | Theirs) -> int:
    """Bytes by which memory grows at most within an epoch.

    The optimizer has its moments by then, which both sides have: what grows are activations,
    logits, gradients.
    """
    side.fit(2, allocated := Allocated())
    return allocated.peak


def two_pass(plan: Plan, ours: Ours, theirs: Theirs) -> Iterator[Row]:
    """Images per second of the two-pass test: many at once, by fused steps or not, and one by one.

    Random weights end no description before its budget, so all ways write equally much.
    """
    name = f"{type(ours.backbone).__name__}: two-pass test"
    items = (ours.rows[row] for row in range(len(ours.rows)))
    seen = list(islice((item for item in items if item.pixels is not None), plan.images))
    batch, sampling = collate(seen), Sampling(0.0, budget=plan.budget)
    together, alone = (TwoPass(sampling=sampling, at_once=n) for n in (len(seen), 1))

    def by_modules() -> None:
        with patch.object(ours.backbone, "stepper", ours.backbone.module_stepper):
            together.read(ours.backbone, batch)

    ways: dict[str, Callable[[], object]] = {
        f"{len(seen)} at once": partial(together.read, ours.backbone, batch),
        "one by one": partial(alone.read, ours.backbone, batch),
        "one by one, transformers": partial(generated, theirs.backbone, batch, together),
        f"{len(seen)} at once, steps by modules": by_modules,
    }
    took = by_turns([partial(timed, work) for work in ways.values()], plan.turns)
    for way, seconds in zip(ways, took, strict=True):
        yield Row(f"{name}, {way}", len(seen) / statistics.median(seconds), "images/s")
    least = 3.0 if plan.judged else None
    yield Row(f"{name}, at once over one by one", over(took[1], took[0]), "", least, least=True)
    yield Row(f"{name}, at once over transformers", over(took[2], took[0]), "", least, least=True)
    yield Row(f"{name}, fused steps over modules", over(took[3], took[0]))


@torch.no_grad()
def generated(model: VisionLanguageModel, batch: Batch, readout: TwoPass) -> list[str]:
    """The same through transformers, one by one; gives the descriptions.

    That is ``generate``, and a forward pass over the description for the logits of the next token.
    """
    texts = []
    for row in range(len(batch["index"])):
        chat = ask(readout.question, pixels_of(batch, row))
        prompt = keywords(model, model.encode([chat]))
        budget = readout.sampling.budget
        written = model.model.generate(
            **prompt, max_new_tokens=budget, do_sample=False, use_cache=True
        )
        texts.append(model.text(written[0, prompt["input_ids"].shape[1] :].tolist()))
        second = keywords(model, model.encode([concluding(texts[-1], readout.words)]))
        model.model(**second, logits_to_keep=1)
    return texts
