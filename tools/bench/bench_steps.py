"""Steps of GRPO that can be compared: the models, what they do, and our way of doing it.

The other way is in `bench_trl`. Both ask the same question about the same images, read from the
same files through the same tokenizer and image settings, or the same questions without images.
They let the same weights write equally many tokens, give them the same reward, and train with the
same objective, optimizer and gradient clipping, without activations computed twice. An epoch is
one step.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as lightning
import torch
from bench_fits import Precision, Span, fitted
from torch import Tensor, nn

from lit_biqa.backbones.timm_chat import TimmChat
from lit_biqa.backbones.tiny_chat import TinyQwenVL
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.settings import LoaderSettings
from lit_biqa.methods.grpo import GRPO, PolicySettings
from lit_biqa.paradigms import Rollout, Sampler, VisualQuality
from lit_biqa.rewards import Format, Reward, Slot
from lit_biqa.rollout.engine import Sampling
from lit_biqa.text import prompts
from lit_biqa.types import Batch, Chat, Completion, Group, ask

QUESTION = prompts.VISUAL_QUALITY_R1


@dataclass(frozen=True)
class Steps:
    """Settings common to both sides.

    Attributes:
        images: a file each, as many as a step has prompts.
        group: completions of a prompt.
        budget: tokens that each completion takes.
        rows_at_once: completions in one forward and backward pass; ``None`` for 8 of ours, which
            is our default, and all of TRL's, which is its.
        beta: weight of the divergence.
        optimizer: AdamW to be timed; SGD where weights are compared, as it turns no rounding of
            a gradient near zero into a whole step.
        lr: its learning rate.
        recited: learn from given completions, not from those that are drawn.
        questions: asked in the place of images, one for each; none for `QUESTION` about each image.
    """

    images: Sequence[Path]
    group: int = 8
    budget: int = 128
    rows_at_once: int | None = None
    beta: float = 0.001
    optimizer: Literal["adamw_torch", "sgd"] = "adamw_torch"
    lr: float = 1e-6
    recited: bool = False
    questions: Sequence[str] = ()

    def make(self, parameters: Any) -> torch.optim.Optimizer:
        """The optimizer, as TRL makes it by its name."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, self.lr)
        return torch.optim.AdamW(parameters, self.lr, weight_decay=0.0)

    def told(self, image: int) -> list[list[int]]:
        """Completions to be recited about an image, of any tokens but special ones."""
        generator = torch.Generator().manual_seed(image)
        told = torch.randint(10, 256, (self.group, self.budget), generator=generator)
        return [list(map(int, row)) for row in told]


class Endless(TinyQwenVL):
    """A tiny Qwen2.5-VL that spends its whole budget, and draws no special token.

    Its head gives these a logit of zero, and so they are never among the 50 likeliest.
    """

    def _read(self) -> Any:
        return self.endless(super()._read())

    def endless(self, model: Any) -> Any:
        """The model, after its head has been changed."""
        model.lm_head.weight.data[list(self.tokenizer.added_tokens_decoder)] = 0
        return model


class EndlessChat(TimmChat):
    """A `TimmChat` that spends its whole budget, since no token ends an answer."""

    def prepare(self) -> None:
        """See `TimmChat`."""
        super().prepare()
        self.end = ()


@dataclass(frozen=True)
class Even(Reward):
    """The share of tokens with even numbers: it differs among completions of any model.

    Attributes:
        budget: tokens that a completion must have.
    """

    budget: int

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`."""
        return torch.tensor([self.of([c.ids for c in group.completions]) for group in groups])

    def of(self, completions: Sequence[Sequence[int]]) -> list[float]:
        """Rewards of some completions.

        Raises:
            RuntimeError: for one that has ended early: sides would not do equally much.
        """
        if any(len(ids) != self.budget for ids in completions):
            raise RuntimeError(f"a completion is not as long as forced, {self.budget} tokens")
        return [sum(token % 2 == 0 for token in ids) / self.budget for ids in completions]


class Asked(VisualQuality):
    """One question about each image, or one without it, rewarded by `Even`.

    Args:
        steps: what is done.
    """

    def __init__(self, steps: Steps) -> None:
        slots = Slot(Even(steps.budget)), Slot(Format("lenient"), 0.0)
        super().__init__(*slots, question=QUESTION, group=steps.group)
        self.steps = steps

    def first(self, batch: Batch, row: int, masked: bool = False) -> Chat:
        """See `Paradigm`."""
        if not self.steps.questions:
            return super().first(batch, row, masked)
        return ask(self.steps.questions[int(batch["index"][row])])

    def run(self, batch: Batch, sample: Sampler) -> Rollout:
        """See `Paradigm`."""

        def recite(chats: Sequence[Chat | None], n: int) -> list[list[Completion]]:
            told = (self.steps.told(image) for image in batch["index"].tolist())
            return [[Completion(tuple(ids), "", False) for ids in some] for some in told]

        return super().run(batch, recite if self.steps.recited else sample)


class Ours:
    """Lightning's Trainer with `GRPO`, as the command line runs it.

    Args:
        backbone: without its weights; the first fit loads them, and the reference with them.
        steps: what is done.
        folder: where the list of images is written.
        device: as Lightning names it.
        precision: of Lightning.
    """

    def __init__(
        self,
        backbone: Endless | EndlessChat,
        steps: Steps,
        folder: Path,
        device: str = "cpu",
        precision: Precision = "32-true",
    ) -> None:
        self.backbone, self.steps = backbone, steps
        self.device, self.precision = device, precision
        self.count, self.table = len(steps.images), folder / "rated.csv"
        write_rated(self.table, steps.images)
        sampling = Sampling(budget=steps.budget)
        policy = PolicySettings(beta=steps.beta, rows_at_once=steps.rows_at_once or 8)
        self.method = GRPO(
            backbone, Asked(steps), steps.make, (), sampling, policy=policy, decay="none"
        )

    @property
    def trained(self) -> list[Tensor]:
        """The weights that are trained, as they are now."""
        return trained(self.backbone)

    def fit(self, epochs: int, span: Span) -> lightning.Trainer:
        """Train; the last step lies within the span."""
        data = BIQADataModule(
            train=[str(self.table)],
            val=[],
            loader=LoaderSettings(batch_size=self.count, num_workers=0),
        )
        return fitted(self.method, data, epochs, span, self.device, self.precision)


def write_rated(table: Path, images: Sequence[Path]) -> None:
    """A list of images, all with the same MOS."""
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "mos"), *((path, 3.0) for path in images)])


def trained(model: nn.Module) -> list[Tensor]:
    """The weights that are trained."""
    return [p for p in model.parameters() if p.requires_grad]
