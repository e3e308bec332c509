"""Planned memory against measured memory: fits of two processes that share the weights (gloo).

The measured figure is the most bytes of live tensors in the second step, see `LiveTensors`; the
planned one is the highest phase of `lit_biqa plan` for the same settings.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import lit_biqa  # noqa: F401  before lightning, as it mends torchvision

# isort: split

import lightning.pytorch as lightning
from bench_fits import Precision, adamw, fitted
from bench_live import LiveTensors
from bench_rali import make_images
from bench_ranks import RANKS, run_ranks
from bench_rows import Row
from bench_steps import Endless, write_rated

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

IMAGES, BATCH = 8, 4  # two steps
RATED = "rated.csv"
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
        reshard: see `ShardedStrategy`.
    """

    name: str
    method: Literal["sft", "grpo"]
    tuning: Tuning = Tuning()
    precision: Precision = "32-true"
    width: int = 256
    layers: int = 6
    budget: int = 32
    reshard: bool = True

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
    """Counts of the first rank of a fit.

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
    Fit("SFT, whole until the backward pass", "sft", reshard=False),
    Fit("GRPO full", "grpo"),
    Fit("GRPO LoRA", "grpo", Tuning("lora", rank=8)),
    Fit("SFT, recomputed, bf16-mixed", "sft", Tuning(checkpointing=True), "bf16-mixed"),
    Fit("GRPO full, recomputed, bf16-mixed", "grpo", Tuning(checkpointing=True), "bf16-mixed"),
)
SMALL = (Fit("GRPO full", "grpo", width=128, layers=3, budget=8),)


def measure(small: bool) -> Iterator[Row]:
    """Rows of planned and measured MiB, and their ratio, which is to lie within `WITHIN` of 1."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rated(folder / RATED, make_images(folder, IMAGES))
        for fit in SMALL if small else FITS:
            yield from rows(fit, measured(fit, folder))


def rows(fit: Fit, seen: Measured) -> Iterator[Row]:
    """Rows of a fit's peak, and of what its loading takes."""
    method = fit.make()
    sizes = sizes_of(method.backbone)
    work = work_of(
        method,
        BATCH,
        fit.precision,
        sizes.image,
        seen.text,
        RANKS,
        sharded=True,
        foreach=False,
        reshard=fit.reshard,
    )
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


def measured(fit: Fit, folder: Path) -> Measured:
    """Counts of a fit in processes of its own.

    Raises:
        RuntimeError: if a process fails or hangs.
    """
    run_ranks(run_fit, folder, fit)
    return Measured(**json.loads((folder / f"{fit.name}.json").read_text()))


def run_fit(rank: int, folder: Path, fit: Fit) -> None:
    """Count live tensors of a fit of two steps, on one of the processes."""
    logging.disable(logging.ERROR)
    live = LiveTensors()
    marks, loader = Marks(live), LoaderSettings(batch_size=BATCH, num_workers=0)
    data = BIQADataModule(train=[str(folder / RATED)], val=[], test=[], loader=loader)
    with live:
        fitted(
            fit.make(),
            data,
            1,
            nullcontext(),
            "cpu",
            fit.precision,
            RANKS,
            [marks],
            reshard=fit.reshard,
        )
    if rank == 0:
        found = Measured(marks.loading, live.peak, marks.longest - marks.image)
        (folder / f"{fit.name}.json").write_text(json.dumps(asdict(found)))


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
