"""Planned memory against measured memory: fits of two processes that share the weights (gloo).

The measured figure is the most bytes of live tensors in the second step, see `LiveTensors`; the
planned one is the highest phase of `lit_biqa plan` for the same settings.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lit_biqa  # noqa: F401  before lightning, as it mends torchvision

# isort: split

import lightning.pytorch as lightning
import numpy as np
import torch
from bench_fits import quietly
from bench_live import LiveTensors
from bench_rows import Row
from lightning.pytorch.strategies import ModelParallelStrategy
from PIL import Image

from lit_biqa.backbones.tiny_chat import TinyQwenVL
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.settings import LoaderSettings
from lit_biqa.methods.chat import ChatMethod
from lit_biqa.methods.grpo import GRPO, PolicySettings
from lit_biqa.methods.sft import SFT
from lit_biqa.paradigms import Score
from lit_biqa.planning.loading import per_process
from lit_biqa.planning.phases import peak, phases
from lit_biqa.planning.sizes import sizes_of
from lit_biqa.planning.work import work_of
from lit_biqa.rollout.engine import Sampling
from lit_biqa.tasks import NameLevel

RANKS, IMAGES, BATCH, LONGEST = 2, 8, 4, 300.0  # LONGEST: seconds of a fit
WITHIN = 0.15  # of the measured bytes


@dataclass(frozen=True)
class Fit:
    """A small fit.

    Attributes:
        name: of its rows.
        method: ``sft`` or ``grpo``.
        tuning: of the backbone.
        precision: of Lightning.
        width: of the model.
        layers: of its decoder.
        budget: tokens of a completion, none of which ends early.
    """

    name: str
    method: Literal["sft", "grpo"]
    tuning: Tuning = Tuning()
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    width: int = 256
    layers: int = 6
    budget: int = 32

    def make(self) -> ChatMethod:
        """Method with a backbone that is not loaded."""
        kind = TinyQwenVL if self.method == "sft" else Endless
        backbone = kind(
            vocabulary=600,
            width=self.width,
            layers=self.layers,
            tuning=self.tuning,
            max_pixels=112 * 112,
        )
        if self.method == "sft":
            return SFT(backbone, NameLevel(), adamw)
        sampling, policy = Sampling(budget=self.budget), PolicySettings(0.01, rows_at_once=4)
        return GRPO(backbone, Score(group=4), adamw, (), sampling, policy=policy)


@dataclass(frozen=True)
class Measured:
    """What the first rank of a fit counted.

    Attributes:
        loading: most bytes until training begins.
        training: most bytes from the second step on.
        text: positions of a row beside those of its image.
    """

    loading: int
    training: int
    text: int


FITS = (
    Fit("SFT", "sft"),
    Fit("GRPO full", "grpo"),
    Fit("GRPO LoRA", "grpo", Tuning("lora", rank=8)),
    Fit("SFT, recomputed, bf16-mixed", "sft", Tuning(checkpointing=True), "bf16-mixed"),
    Fit("GRPO full, recomputed, bf16-mixed", "grpo", Tuning(checkpointing=True), "bf16-mixed"),
)
SMALL = (Fit("GRPO full", "grpo", width=128, layers=3, budget=8),)


class Endless(TinyQwenVL):
    """A model whose completions all have the budget's length, as the plan takes them."""

    def prepare(self) -> None:
        """See `VisionLanguageModel`; no token ends a completion."""
        super().prepare()
        self.end = ()

    def _text(self) -> dict[str, Any]:
        self.end = (0, 0)  # of the configuration alone
        settings = super()._text()
        self.end = ()
        return settings


def adamw(parameters: Any) -> torch.optim.Optimizer:
    """As the recipes have it."""
    return torch.optim.AdamW(parameters, lr=1e-5)


def measure(small: bool) -> Iterator[Row]:
    """Rows of planned and measured MiB, and their ratio, which is to lie within `WITHIN` of 1."""
    with tempfile.TemporaryDirectory() as name:
        data = images(Path(name))
        for fit in SMALL if small else FITS:
            yield from rows(fit, measured(fit, data))


def rows(fit: Fit, seen: Measured) -> Iterator[Row]:
    """Rows of a fit's peak, and of what its loading takes."""
    method = fit.make()
    sizes = sizes_of(method.backbone)
    work = work_of(method, BATCH, fit.precision, sizes.image, seen.text, RANKS, True, foreach=False)
    planned = peak(phases(sizes, work))[1], per_process(sizes, work)
    for what, ours, theirs in zip(
        ("peak", "loading"), planned, (seen.training, seen.loading), strict=True
    ):
        yield Row(f"{fit.name}: {what}, planned", ours / 2**20, "MiB")
        yield Row(f"{fit.name}: {what}, measured", theirs / 2**20, "MiB")
        yield Row(f"{fit.name}: {what}, planned / measured, at most", ours / theirs, "", 1 + WITHIN)
        yield Row(
            f"{fit.name}: {what}, planned / measured, at least", ours / theirs, "", 1 - WITHIN, True
        )


def images(folder: Path) -> Path:
    """List of random images with random scores."""
    draw, lines = np.random.default_rng(0), ["image,mos"]
    for number in range(IMAGES):
        pixels = draw.integers(0, 256, (128, 128, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{1 + 4 * draw.random():.2f}")
    (folder / "list.csv").write_text("\n".join(lines))
    return folder / "list.csv"


def measured(fit: Fit, data: Path) -> Measured:
    """Counts of a fit in processes of its own.

    Raises:
        RuntimeError: if a process fails or hangs.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    ranks = [
        context.Process(target=_rank, args=(rank, port, fit, data, answers))
        for rank in range(RANKS)
    ]
    for process in ranks:
        process.start()
    try:
        return _answer(fit, answers, ranks)
    finally:
        for process in ranks:
            process.join(30)
            process.kill()


def _answer(fit: Fit, answers: Any, ranks: list[Any]) -> Measured:
    """What the first rank sends; an error once a process has failed."""
    began = time.monotonic()
    while time.monotonic() - began < LONGEST and not any(each.exitcode for each in ranks):
        with suppress(queue.Empty):
            seen: Measured = answers.get(timeout=1)
            return seen
    raise RuntimeError(f"{fit.name}: a process failed, or took more than {LONGEST:g} seconds")


def _rank(rank: int, port: int, fit: Fit, data: Path, answers: Any) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
        "RANK": str(rank),
        "WORLD_SIZE": str(RANKS),
    }
    torch.set_num_threads(1)
    logging.disable(logging.ERROR)
    method, live = fit.make(), LiveTensors()
    marks = Marks(live)
    with quietly():
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=RANKS,
            strategy=ModelParallelStrategy(data_parallel_size=RANKS, tensor_parallel_size=1),
            precision=fit.precision,
            max_steps=2,
            gradient_clip_val=1.0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=[marks],
        )
        loader = LoaderSettings(batch_size=BATCH, num_workers=0)
        rows = BIQADataModule(train=[str(data)], val=[], test=[], loader=loader)
        with live:
            trainer.fit(method, datamodule=rows)
    if rank == 0:
        answers.put(Measured(marks.loading, live.peak, marks.longest - marks.image))


class Marks(lightning.Callback):
    """Reads the counter where loading ends and where the second step begins."""

    def __init__(self, live: LiveTensors) -> None:
        self.live, self.loading, self.longest, self.image = live, 0, 0, 0

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Keep the peak of loading, and see the lengths of rows."""
        self.loading = self.live.peak
        encode = pl_module.backbone.encode_chat

        def seen(chat: Any) -> Any:
            row = encode(chat)
            self.image = max(self.image, int(row.image.sum()))
            return row

        pl_module.backbone.encode_chat = seen
        pl_module.backbone.register_forward_pre_hook(self._see)

    def on_train_batch_start(self, *_: Any) -> None:
        """Begin anew: the last batch's peak stays."""
        self.live.peak = self.live.total

    def _see(self, _: Any, arguments: tuple[Any, ...]) -> None:
        for each in arguments:
            if hasattr(each, "positions") and hasattr(each, "mask"):
                self.longest = max(self.longest, each.mask.shape[1])
