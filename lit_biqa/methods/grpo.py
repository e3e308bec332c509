"""Group-relative policy optimisation: rollout, rewards, advantages, policy loss."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer

from lit_biqa.backbones.tuning import SEEING
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.distributed import all_gather, gather_rows
from lit_biqa.methods.base import Decay
from lit_biqa.methods.chat import ChatMethod
from lit_biqa.methods.finite import OnNonfinite
from lit_biqa.methods.taught import Taught
from lit_biqa.objectives.policy import Aggregation, Scale
from lit_biqa.paradigms import GroupRewards, Paradigm, Rollout
from lit_biqa.paradigms.figures import figures, table, unread
from lit_biqa.readouts.base import Readout
from lit_biqa.readouts.ratings import Rated
from lit_biqa.rollout.engine import Sampling
from lit_biqa.rollout.policy_update import Objective, PolicyUpdate
from lit_biqa.rollout.prompts import PromptEncoder
from lit_biqa.rollout.replay import Key, Record, ReplayedCompletions, records
from lit_biqa.rollout.sampler import CompletionSampler
from lit_biqa.rollout.tokens import said
from lit_biqa.types import (
    Batch,
    Chat,
    Completion,
    Group,
    InputError,
    Prediction,
    Sample,
    TextPrediction,
    TrainingError,
    check_range,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ScoredRollout:
    """A rollout with its rewards and the policy updates that follow from them.

    Attributes:
        keys: data set and row of each image.
        rollout: completions of all passes.
        rewards: rewards and advantages of its groups.
        updates: one for each pass that is trained.
    """

    keys: list[Key]
    rollout: Rollout
    rewards: GroupRewards
    updates: list[PolicyUpdate]


class GRPO(ChatMethod):
    """Group-relative policy optimisation on image quality.

    A step lets the model speak about the images of a batch, several times each, rewards what it
    says, and makes what earned more than the rest of its group more likely. With accelerators that
    share weights or images, and however many processes there are, the loss is the mean over the
    completions of the whole batch, the losses of trained passes added up.

    Args:
        backbone: that speaks, and is trained.
        paradigm: what is asked, handed on and rewarded.
        optimizer: of what is trained.
        readouts: how scores are read in a test; the first also in validation.
        sampling: of what is said while training.
        beta: weight of the divergence from the model as it was before training: a second, frozen
            copy for full tuning, the same model without its updates for LoRA, none for 0.
        clip: ε; the ratio of probabilities is cut off at 1 ± ε.
        aggregation: ``grpo``, ``dr_grpo`` or ``dapo``, see `lit_biqa.objectives.policy`.
        scale: of advantages; ``none`` as in Dr. GRPO.
        iterations: μ, optimizer steps on what was said once; the batch is repeated as often.
        prompts_at_once: chats that are answered together; all if ``None``.
        rows_at_once: completions that are learned from together; bounds memory.
        table_every: optimizer steps between two tables of completions in TensorBoard.
        seed: of what is said, with step, image and place.
        warmup: share of the steps over which the learning rate rises.
        decay: how it falls afterwards.
        on_nonfinite: ``stop`` the fit at a step that is not finite, or ``skip`` it.

    Source: DeepSeekMath (Shao et al., 2024), as Q-Insight and *Understanding Pure Textual
    Reasoning* have it in their code.

    Raises:
        InputError: for settings out of range.
    """

    in_bar = ("reward", "zero_variance")

    def __init__(
        self,
        backbone: VisionLanguageModel,
        paradigm: Paradigm,
        optimizer: OptimizerCallable,
        readouts: Sequence[Readout] = (),
        sampling: Sampling = Sampling(),
        beta: float = 0.001,
        clip: float = 0.2,
        aggregation: Aggregation = "grpo",
        scale: Scale = "group",
        iterations: int = 1,
        prompts_at_once: int | None = None,
        rows_at_once: int = 8,
        table_every: int = 50,
        seed: int = 0,
        warmup: float = 0.0,
        decay: Decay = "linear",
        on_nonfinite: OnNonfinite = "stop",
    ) -> None:
        for readout in readouts:
            if isinstance(readout, Rated):
                readout.paradigm = readout.paradigm or paradigm
        super().__init__(backbone, optimizer, readouts, warmup, decay, on_nonfinite)
        if min(iterations, rows_at_once, table_every) < 1 or beta < 0 or not clip > 0:
            raise InputError(
                f"iterations={iterations}, rows_at_once={rows_at_once}, table_every={table_every}, "
                f"beta={beta}, clip={clip}: give at least 1, 1, 1, 0 and more than 0"
            )
        check_range("model.prompts_at_once", prompts_at_once, 1)
        if not sampling.temperature:
            raise InputError("sampling.temperature=0 says the same thing always: give more than 0")
        self.paradigm, self.sampling = paradigm, sampling
        self.objective = Objective(
            beta, clip, aggregation, sampling.temperature, sampling.budget, rows_at_once
        )
        self.scale, self.iterations, self.seed = scale, iterations, seed
        self.prompts_at_once, self.table_every = prompts_at_once, table_every
        self.rollout: ScoredRollout | None = None
        self._kept: dict[Key, Record] = {}
        # In lists they are no part of this module: of none of its checkpoints, nor of what trains.
        self._frozen: list[VisionLanguageModel] = []
        self._seconds: dict[str, float] = {}
        self._differ: bool | None = None  # where nothing was said since the last step
        self._reward = 0.0
        self._unread, self._answers = 0, 0  # since the last step
        self.taught = Taught()

    def setup(self, stage: str) -> None:
        """Choose what is learned from; check the rest before weights are loaded.

        Raises:
            InputError: if no sample suits the paradigm, or a second question does not fit the
                context.
        """
        super().setup(stage)
        if stage != "fit":
            return
        if self.iterations > 1 and self.trainer.accumulate_grad_batches > 1:
            raise InputError("model.iterations and trainer.accumulate_grad_batches: set one to 1")
        if not self.paradigm.updates[0] and set(self.backbone.tuning.parts) <= set(SEEING):
            raise InputError(
                f"update_pass1=false, and tuning.parts={list(self.backbone.tuning.parts)}: the "
                "second pass sees no image; train the language part"
            )
        if self.paradigm.second:
            asked = len(self.backbone.encode_chat(self.paradigm.second_prompt("")).ids)
            self.backbone.check_length(asked + self.sampling.budget, self.sampling.budget)
        self._choose(self.data.samples)
        # The texts of an image are what rewards compare with: they make no rows of their own.
        self.data.repeats, self.data.row_per_text = self.iterations, False

    def _choose(self, samples: dict[str, list[Sample]]) -> None:
        name, train = type(self.paradigm).__name__, samples["train"]
        kept = self.paradigm.suited(train, [*samples.get("val", ()), *samples.get("test", ())])
        if not kept:
            raise InputError(f"none of {len(train)} samples to train on suits {name}")
        if len(kept) < len(train):
            log.warning("%d of %d samples suit %s", len(kept), len(train), name)
        samples["train"] = kept

    @property
    def leaves_unused(self) -> bool:
        """Where second passes alone are learned: they see no image."""
        return not self.paradigm.updates[0]

    def question(self, batch: Batch, row: int) -> Chat:
        """See `ChatMethod`; the first of the paradigm, with the MOS masked."""
        return self.paradigm.question(batch, row)

    def load(self) -> None:
        """Read the weights, and in a fit keep a copy where one is needed."""
        super().load()
        if not self.paradigm.updates[0]:
            # A second pass sees no image. DDP would wait for gradients, or decay what has none.
            for part in SEEING:
                for module in self.backbone.parts[part]:
                    module.requires_grad_(False)
        fitting = self.trainer.state.fn == TrainerFn.FITTING
        if fitting and self.objective.beta and self.backbone.tuning.how == "full":
            self._frozen = [deepcopy(self.backbone).requires_grad_(False)]

    def shard(self) -> None:
        """Shard the backbone, and its copy."""
        super().shard()
        assert self.device_mesh is not None
        for frozen in self._frozen:
            frozen.shard(self.device_mesh["data_parallel"])

    def on_fit_start(self) -> None:
        """Bring the copy to where the backbone is.

        Raises:
            InputError: if there is none and there must be one.
        """
        if self.objective.beta and self.backbone.tuning.how == "full" and not self._frozen:
            raise InputError(
                "GRPO copies the weights as it reads them, for the reference that beta weighs: "
                "hand over a backbone that is not loaded, or set beta to 0"
            )
        super().on_fit_start()
        for frozen in self._frozen:
            frozen.to(self.device)

    def compute_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The policy loss, on what is said now or was said some steps ago."""
        with self.backbone.cache_image_features():
            return self._loss(batch)

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        self._seconds = {}
        if self.global_step % self.iterations == 0 or self.rollout is None:
            self.rollout = self._roll_out(batch)
            fresh = (update for update in self.rollout.updates if update.old is None)
            self._differ = bool(self._differ) | any(update.teaches for update in fresh)
            without, all_of_them = unread(self.paradigm, self.rollout.rollout)
            self._unread, self._answers = self._unread + without, self._answers + all_of_them
        found = figures(self.paradigm, self.rollout.rollout, self.rollout.rewards)
        self._reward = found["reward"]
        losses = []
        with self._clock("loss"):
            for update in self.rollout.updates:
                loss, stats = update.loss(self.backbone, self.objective)
                losses.append(loss)
                found |= {f"pass{update.number}/{name}": each for name, each in stats.items()}
        found |= {f"seconds/{name}": each for name, each in self._seconds.items()}
        parts = {name: torch.tensor(each, device=self.device) for name, each in found.items()}
        return torch.stack(losses).sum(), parts

    def _roll_out(self, batch: Batch) -> ScoredRollout:
        keys = list(zip(batch["dataset"], batch["index"].tolist(), strict=True))
        kept, self._kept = self._kept, {}
        again = ReplayedCompletions(self.backbone, kept, keys) if kept.keys() >= set(keys) else None
        encode = PromptEncoder(self.backbone)
        with self._clock("rollout"):
            sampler = again or CompletionSampler(
                self.backbone,
                keys,
                f"{self.seed}/{self.global_step}",
                self.sampling,
                self.prompts_at_once,
                encode,
            )
            rollout = self.paradigm.run(batch, sampler.sample)
        rewards = self._judge(rollout.groups)
        updates = self._updates(rollout, rewards, encode)
        for place, update in enumerate(updates):
            if self.objective.beta:
                with self._clock("reference"):
                    update.refer((self._frozen or [self.backbone])[0], self.objective)
            if again:
                update.old = again.old(place, update.said.ids.shape[2]).to(self.device)
        return ScoredRollout(keys, rollout, rewards, updates)

    def _judge(self, groups: Sequence[Group]) -> GroupRewards:
        """Images are ranked against those of all ranks."""
        step = gather_rows(groups, _key)
        keys = [_key(group) for group in step]
        return self.paradigm.reward(step, self.scale).of([keys.index(_key(g)) for g in groups])

    def _updates(
        self, rollout: Rollout, rewards: GroupRewards, encode: PromptEncoder
    ) -> list[PolicyUpdate]:
        passes = enumerate(zip(rollout.passes, rewards.advantages, strict=True))
        return [
            PolicyUpdate.of(
                number + 1,
                said(self.backbone, each.chats, each.completions, earned.shape[1], encode),
                earned,
            )
            for number, (each, earned) in passes
            if self.paradigm.updates[number]
        ]

    def validation_step(  # type: ignore[override]
        self, batch: Batch, batch_idx: int
    ) -> list[Prediction]:
        """Rows of the first readout; what its answers earn is ``val/reward/<slot>``."""
        rows = super().validation_step(batch, batch_idx)
        answers = [r for r in rows if isinstance(r, TextPrediction) and r.condition == "image"]
        if answers:
            groups = [_answered(row) for row in answers]
            for name in self.paradigm.slots.keys() - self.paradigm.slots_of_second.keys():
                earned = self.paradigm.slots[name].reward(groups).mean()
                tag = f"val/reward/{name}"
                self.log(tag, earned, batch_size=len(groups), sync_dist=True)
        return rows

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is still to be learned from, of all ranks."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["taught"] = self.taught.state()
        if self.rollout is not None and self.global_step % self.iterations:
            said = [each.completions for each in self.rollout.rollout.passes]
            old = [update.old for update in self.rollout.updates]
            own = records(self.rollout.keys, said, old)
            checkpoint["rollout"] = gather_rows(own, lambda record: record["key"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what was still to be learned from."""
        super().on_load_checkpoint(checkpoint)
        self.taught.restore(checkpoint.get("taught", {}))
        self._kept = {record["key"]: record for record in checkpoint.get("rollout", ())}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """See `Method`; refuse to learn nothing where there is something to learn.

        Raises:
            TrainingError: if rewards differ within a group and no gradient has come of it.
        """
        super().on_before_optimizer_step(optimizer)
        said, self._differ = self._differ, None
        counts = [int(bool(said)), self._unread, self._answers]
        self._unread = self._answers = 0
        if said is None:
            return
        differing, *answers = all_gather(torch.tensor([counts], device=self.device)).sum(0).tolist()
        differ = differing > 0
        warning = self.taught.note(differ, self._reward, *answers)
        if warning and self.global_rank == 0:
            log.warning(warning)
        if differ and self.gradient_norm == 0:
            raise TrainingError(
                "rewards differ within groups and yet all gradients are zero: nothing would be "
                "learned. Is any part of the model trained that the passes run through "
                "(tuning.parts), and does the loss reach it?"
            )

    def on_train_end(self) -> None:
        """Say so where nothing was learned."""
        super().on_train_end()
        if self.global_rank == 0 and (verdict := self.verdict()):
            log.warning(verdict)

    def verdict(self) -> str:
        """See `Evaluator`: what earned the same throughout has taught nothing."""
        return self.taught.verdict()

    def rollout_rows(self) -> Iterator[dict[str, str]]:
        """What was said in the last step; see `RolloutTable`."""
        if self.rollout is not None:
            yield from table(self.paradigm, self.rollout.rollout, self.rollout.rewards)

    @contextmanager
    def _clock(self, phase: str) -> Iterator[None]:
        start = self._now()
        yield
        self._seconds[phase] = self._seconds.get(phase, 0.0) + self._now() - start

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _answered(row: TextPrediction) -> Group:
    """A group of the one answer that a score was read from."""
    return Group(row.mos, math.nan, row.dataset, row.index, (Completion((), row.text),))


def _key(group: Group) -> Key:
    return group.dataset, group.index
