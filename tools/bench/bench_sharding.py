"""Bytes and memory of two processes that share the weights (FSDP2, gloo): a step, and loading.

Counts depend on sizes alone, so that weights are random and the processes are those of one CPU. A
step of fine-tuning learns conversations, some of them without an image. A step of GRPO samples two
passes, compares both with the reference, and learns from both. Loaded are weights of a folder in
bfloat16, to be trained in float32; GRPO loads its reference too.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench_data import CONVERSATIONS, TASK, conversations, made_up_words
from bench_fits import SMOOTHING, Precision, adamw, fitted
from bench_meters import Exchanged, Resident
from bench_rali import make_images
from bench_ranks import RANKS, run_ranks
from bench_rows import Row
from bench_steps import Asked, Endless, Steps, write_rated

from lit_biqa.backbones.qwen_vl import QwenVL
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.feedbacks import ConversationSettings
from lit_biqa.data.settings import LoaderSettings, SetSettings
from lit_biqa.distributed import gather_rows
from lit_biqa.methods.grpo import GRPO, PolicySettings
from lit_biqa.methods.sft import SFT
from lit_biqa.rollout.engine import Sampling

RATED, WEIGHTS = "rated.csv", "weights"


@dataclass(frozen=True)
class Plan:
    """Sizes of the measurement.

    Attributes:
        vocabulary: small, so that embedding and head take no larger a share than in a model of
            real size.
        width: of the model.
        loaded_width: of the model whose loading is measured.
        layers: of its decoder.
        rows: of a step of fine-tuning.
        images: of a step of GRPO.
        group: completions of each image, and of each caption one.
        budget: tokens of each.
        rows_at_once: completions in a portion of the loss.
    """

    vocabulary: int = 512
    width: int = 64
    loaded_width: int = 256
    layers: int = 6
    rows: int = 6
    images: int = 2
    group: int = 4
    budget: int = 4
    rows_at_once: int = 2

    def model(self, words: Path, tuning: Tuning, width: int | None = None) -> Endless:
        """Without its weights."""
        sizes = self.vocabulary, width or self.width, self.layers
        return Endless([str(words)], *sizes, tuning=tuning, max_pixels=56 * 56)


SMALL = Plan(width=32, loaded_width=32, layers=2, rows=2, group=2, budget=2, rows_at_once=1)


@dataclass(frozen=True)
class Case:
    """One training.

    Attributes:
        method: ``SFT`` or ``GRPO``.
        tuning: ``full`` or ``lora``.
        precision: of Lightning.
        reshard: see `ShardedStrategy`.
    """

    method: str
    tuning: str
    precision: Precision
    reshard: bool = True

    @property
    def name(self) -> str:
        """Name for people."""
        kept = "" if self.reshard else ", whole until the backward pass"
        return f"{self.method}, {self.tuning}, {self.precision}{kept}"


CASES = [
    Case(method, tuning, precision)
    for method in ("SFT", "GRPO")
    for tuning in ("full", "lora")
    for precision in ("32-true", "bf16-mixed")
] + [Case("SFT", tuning, "bf16-mixed", reshard=False) for tuning in ("full", "lora")]


class Twice(Asked):
    """`Asked`, and a second pass about what the first one wrote."""

    def __init__(self, steps: Steps) -> None:
        super().__init__(steps)
        self.second, self.updates = 1, (True, True)

    def extract_caption(self, text: str) -> str | None:
        """See `Paradigm`."""
        return text.strip() or "nothing"


def measure(small: bool) -> Iterator[Row]:
    """Rows of bytes and gathers of a step, and of memory while loading.

    Args:
        small: very little of everything, to see that it runs.
    """
    plan = SMALL if small else Plan()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        words = made_up_words(folder, 2000)
        conversations(words, plan.rows)
        write_rated(folder / RATED, make_images(folder, plan.images))
        run_ranks(run_steps, folder, plan)
        for case in CASES:
            found = json.loads((folder / f"{case.name}.json").read_text())
            for what in ("gathered", "reduced"):
                yield Row(f"{case.name}: {what}", found[what] / found["parameters"], "bytes/weight")
            yield Row(f"{case.name}: gathers", found["gathers"], "calls")
        write_weights(folder, plan)
        run_ranks(run_loading, folder, plan)
        for name in METHODS:
            found = json.loads((folder / f"loading {name}.json").read_text())
            yield Row(f"loading, {name}: share of a rank", found["share"] / 2**20, "MiB")
            yield Row(f"loading, {name}: largest block", found["block"] / 2**20, "MiB")
            yield Row(f"loading, {name}: peak growth", max(found["peaks"]) / 2**20, "MiB")


def write_weights(folder: Path, plan: Plan) -> None:
    """Write the weights to be loaded, as a fit exports them."""
    model = plan.model(folder / "words.txt", Tuning(precision="bfloat16"), plan.loaded_width)
    model.load()
    model.save(folder / WEIGHTS, model.state())


def run_steps(rank: int, folder: Path, plan: Plan) -> None:
    """Count the steps of all cases, on one of the processes."""
    for case in CASES:
        found = exchanged(folder, plan, case)
        if rank == 0:
            (folder / f"{case.name}.json").write_text(json.dumps(found))


def run_loading(rank: int, folder: Path, plan: Plan) -> None:
    """Measure the memory of loading, on one of the processes."""
    exchanged(folder, SMALL, CASES[0])  # imports what loading imports
    for name, make in METHODS.items():
        backbone = QwenVL(str(folder / WEIGHTS), max_pixels=56 * 56)
        method, data = make(folder, plan, backbone)
        configure, resident = method.configure_model, Resident()
        # Lightning calls it once ranks are there, and its training has not begun.
        setattr(method, "configure_model", partial(_within, resident, configure))  # noqa: B010
        fitted(method, data, 0, nullcontext(), "cpu", "32-true", RANKS)
        # gather_rows drops repeats of a key, which does not change the highest peak.
        peaks = gather_rows([resident.peak], int)
        found = sizes(backbone, copies=2 if name == "GRPO" else 1) | {"peaks": peaks}
        if rank == 0:
            (folder / f"loading {name}.json").write_text(json.dumps(found))


def _within(context: Resident, work: Callable[[], None]) -> None:
    with context:
        work()


def sizes(backbone: QwenVL, copies: int) -> dict[str, Any]:
    """Bytes of a rank's share of the weights, and of the largest block while it is whole."""
    blocks = [sum(w.nbytes for w in block.parameters()) for block in backbone.blocks()]
    outside = sum(w.nbytes for w in backbone.parameters()) - sum(blocks)
    return {
        "share": copies * (sum(blocks) + outside) / RANKS,
        "block": max([*blocks, outside]),
    }


def exchanged(folder: Path, plan: Plan, case: Case) -> dict[str, int]:
    """Counts of the second step of a case, and the number of weights."""
    tuning = Tuning("lora", rank=2) if case.tuning == "lora" else Tuning()
    backbone = plan.model(folder / "words.txt", tuning)
    method, data = METHODS[case.method](folder, plan, backbone)
    counts = Exchanged()
    fitted(method, data, 2, counts, "cpu", case.precision, RANKS, reshard=case.reshard)
    return {
        **{name: getattr(counts, name) for name in ("gathered", "reduced", "gathers")},
        "parameters": sum(weight.numel() for weight in backbone.parameters()),
    }


def _sft(folder: Path, plan: Plan, backbone: QwenVL) -> tuple[SFT, BIQADataModule]:
    settings = ConversationSettings(str(folder / CONVERSATIONS), str(folder), decompose=False)
    data = BIQADataModule(
        train=["conversations"],
        val=[],
        sets=SetSettings(conversations=settings),
        loader=LoaderSettings(batch_size=plan.rows, num_workers=0),
    )
    return SFT(backbone, TASK, adamw, (), SMOOTHING, warmup=0.0, decay="none"), data


def _grpo(folder: Path, plan: Plan, backbone: QwenVL) -> tuple[GRPO, BIQADataModule]:
    images = [folder / f"{number}.jpg" for number in range(plan.images)]
    steps = Steps(images, plan.group, plan.budget)
    policy = PolicySettings(beta=steps.beta, rows_at_once=plan.rows_at_once)
    sampling = Sampling(budget=steps.budget)
    method = GRPO(backbone, Twice(steps), steps.make, (), sampling, policy=policy, decay="none")
    data = BIQADataModule(
        train=[str(folder / RATED)],
        val=[],
        loader=LoaderSettings(batch_size=plan.images, num_workers=0),
    )
    return method, data


METHODS = {"SFT": _sft, "GRPO": _grpo}
