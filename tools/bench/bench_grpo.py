"""Speed of GRPO: a step against TRL's, and the answers of a test against transformers' generate.

Weights are random, since no speed depends on them, and no answer ends before its budget. What is
compared runs by turns, and a ratio is the median over the turns. On a CPU all runs on one thread
and a second is one of that thread, so that other work on the machine shows little.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import lightning.pytorch as lightning
import torch
from bench_data import keywords, made_up_words
from bench_meters import Allocated, Clock, by_turns, one_thread, over, timed
from bench_rali import make_images
from bench_rows import Row
from bench_steps import QUESTION, Endless, EndlessChat, Ours, Steps
from bench_trl import Theirs
from PIL import Image
from torch import Tensor

from lit_biqa.backbones.tuning import Tuning
from lit_biqa.rollout.engine import Sampling, generate
from lit_biqa.types import Chat, InputError, ask


@dataclass(frozen=True)
class Plan:
    """Sizes of the measurement.

    Attributes:
        vocabulary: small, so that the head takes no larger a share than in a model of real size.
        width: of the model.
        layers: of its decoder.
        rank: of LoRA, to the width what the recipe's is to a real one.
        max_pixels: of an image; by default it takes 252 tokens, and a prompt 402.
        prompts: of a step.
        group: completions of a prompt, and answers to an image.
        budget: tokens of each.
        turns: that each side is timed for.
        images: of a test, all at once.
        judged: whether speed has limits.
    """

    vocabulary: int = 2048
    width: int = 224
    layers: int = 5
    rank: int = 8
    max_pixels: int = 504 * 392
    prompts: int = 2
    group: int = 8
    budget: int = 128
    turns: int = 3
    images: int = 16
    judged: bool = True

    def model(self, words: Path, tuning: Tuning = Tuning()) -> Endless:
        """Without its weights."""
        sizes = self.vocabulary, self.width, self.layers
        return Endless([str(words)], *sizes, tuning=tuning, max_pixels=self.max_pixels)

    def least(self, ratio: float) -> float | None:
        """A limit of speed."""
        return ratio if self.judged else None


SMALL = Plan(512, 32, 2, 2, 56 * 56, group=2, budget=4, turns=1, images=2, judged=False)


def measure(small: bool) -> Iterator[Row]:
    """All rows, one by one.

    Args:
        small: very little of everything, to see that it runs.

    Raises:
        InputError: if TRL is not there.
    """
    if importlib.util.find_spec("trl") is None:
        raise InputError("a step is compared with TRL's: pip install 'lit_biqa[bench]', or trl")
    plan = SMALL if small else Plan()
    low = Tuning("lora", parts=("language",), rank=plan.rank, alpha=2 * plan.rank)
    with tempfile.TemporaryDirectory() as made, one_thread():
        folder = Path(made)
        words, images = made_up_words(folder, 2000), make_images(folder, plan.images)
        for name, tuning in (("full", Tuning()), ("LoRA", low)):
            model = partial(plan.model, words, tuning)
            yield from steps(f"step, {name}", plan, model, images[: plan.prompts], folder)
        yield from answers(plan, plan.model(words), images)


def steps(
    name: str, plan: Plan, model: Callable[[], Endless], images: Sequence[Path], folder: Path
) -> Iterator[Row]:
    """Completions per second and memory of a step, ours and TRL's."""
    work = Steps(images, plan.group, plan.budget)
    yield from apart(name, model, work, folder)
    ours, theirs = Ours(model(), work, folder), Theirs(model(), work, folder)
    peaks = [grown(side) for side in (ours, theirs)]  # which also warms both up
    yield Row(f"{name}: memory growth, ours", peaks[0] / 2**20, "MiB")
    yield Row(f"{name}: memory growth, TRL", peaks[1] / 2**20, "MiB")
    most = plan.least(0.35)
    yield Row(f"{name}: memory growth, ours over TRL", peaks[0] / peaks[1], "", most)
    took = by_turns([partial(step, ours), partial(step, theirs)], plan.turns)
    for side, seconds in zip(("ours", "TRL"), took, strict=True):
        rate = plan.prompts * plan.group / statistics.median(seconds)
        yield Row(f"{name}: {side}", rate, "completions/s")
    least = plan.least(4.0)
    yield Row(f"{name}: ours over TRL", over(took[1], took[0]), "", least, least=True)


def apart(
    name: str, model: Callable[[], Endless | EndlessChat], work: Steps, folder: Path
) -> Iterator[Row]:
    """Difference between the two sides after two steps on the same completions.

    In the first the policy is the reference, and the advantages of a group add up to nothing, so
    that its loss is zero; the second has all terms. β is 1 for the divergence to show.
    """
    work = replace(work, beta=1.0, optimizer="sgd", lr=1.0, recited=True)
    ours, theirs = Ours(model(), work, folder), Theirs(model(), work, folder)
    losses = (
        float(ours.fit(2, Clock()).callback_metrics["train/loss"]),
        2 * theirs.fit(2, Clock()).state.log_history[-1]["train_loss"],
    )
    yield Row(f"{name}: losses, difference", abs(losses[0] - losses[1]), "nats", 1e-4)
    moved = [_moved(side.trained, theirs.first) for side in (ours, theirs)]
    change = (moved[0] - moved[1]).norm() / moved[1].norm()
    yield Row(f"{name}: changes of weights, difference", float(change), "relative", 1e-4)


def _moved(now: Sequence[Tensor], first: Sequence[Tensor]) -> Tensor:
    pairs = zip(now, first, strict=True)
    return torch.cat([(weight - start).detach().flatten() for weight, start in pairs])


def step(side: Ours | Theirs) -> float:
    """Seconds of a step, reading and the optimizer included."""
    side.fit(1, clock := Clock())
    return clock.seconds


def grown(side: Ours | Theirs) -> int:
    """Bytes by which memory grows at most within a second step.

    The weights, the reference and the moments of the optimizer are there by then.
    """
    side.fit(2, allocated := Allocated())
    return allocated.peak


def answers(plan: Plan, model: Endless, images: Sequence[Path]) -> Iterator[Row]:
    """Answers per second about images at once, and one by one."""
    model.load()
    theirs = deepcopy(model)
    theirs.model.set_attn_implementation("sdpa")
    transform = model.image_transform
    chats = [ask(QUESTION, transform(Image.open(file))) for file in images]
    sampling = Sampling(budget=plan.budget)
    for n in (1, plan.group):
        name = f"test, {n} answer{'s' * (n > 1)} per image"
        ways: dict[str, Callable[[], object]] = {
            f"{len(chats)} images at once": partial(generate, model, chats, n, sampling),
            "one by one": partial(generate, model, chats, n, sampling, batch_size=1),
            "one by one, transformers": partial(generated, theirs, chats, n, plan.budget),
        }
        took = by_turns([partial(timed, work) for work in ways.values()], plan.turns)
        for way, seconds in zip(ways, took, strict=True):
            rate = n * len(chats) / statistics.median(seconds)
            yield Row(f"{name}, {way}", rate, "answers/s")
        ratio, least = over(took[2], took[0]), plan.least(3.0)
        yield Row(f"{name}, at once over transformers", ratio, "", least, least=True)


@torch.no_grad()
def generated(model: Endless, chats: Sequence[Chat], n: int, budget: int) -> list[list[str]]:
    """The same through transformers, one image at a time."""
    texts = []
    for chat in chats:
        prompt = keywords(model, model.encode([chat]))
        written = model.model.generate(
            **prompt,
            max_new_tokens=budget,
            do_sample=True,
            temperature=1.0,
            top_k=50,
            num_return_sequences=n,
        )[:, prompt["input_ids"].shape[1] :]
        if written.shape[1] < budget:
            raise RuntimeError("answers have ended before their budget")
        texts.append([model.text(ids) for ids in written.tolist()])
    return texts


PHASES = {"rollout": "rollout", "reference": "reference", "loss and gradients": "loss"}


def phases(name: str, trainer: lightning.Trainer) -> Iterator[Row]:
    """Seconds of the last step by phases."""
    for what, phase in PHASES.items():
        seconds = float(trainer.callback_metrics[f"train/seconds/{phase}"])
        yield Row(f"{name}: {what}", seconds, "s")
