"""Group-relative policy optimisation: rollout, rewards, advantages, policy loss."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer

from lit_biqa.backbones.tuning import SEEING
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.methods.base import Decay
from lit_biqa.methods.chat import ChatMethod
from lit_biqa.methods.finite import OnNonfinite
from lit_biqa.methods.grpo.clock import PhaseClock
from lit_biqa.methods.grpo.reference import Reference
from lit_biqa.methods.grpo.rollouts import RolloutRunner, ScoredRollout
from lit_biqa.methods.grpo.settings import PolicySettings, RolloutSettings
from lit_biqa.methods.grpo.signal import LearningSignal
from lit_biqa.methods.grpo.taught import Taught
from lit_biqa.paradigms import Paradigm
from lit_biqa.paradigms.figures import figures, table
from lit_biqa.readouts.base import Readout
from lit_biqa.readouts.ratings import Rated
from lit_biqa.rollout.engine import Sampling
from lit_biqa.rollout.policy_update import Objective
from lit_biqa.rollout.replay import Key, Record
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
)

log = logging.getLogger(__name__)


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
        rollouts: how many chats are answered together, the seed, and when completions are shown.
        policy: the loss, and how many optimizer steps are made on the same completions.
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
        rollouts: RolloutSettings = RolloutSettings(),
        policy: PolicySettings = PolicySettings(),
        warmup: float = 0.0,
        decay: Decay = "linear",
        on_nonfinite: OnNonfinite = "stop",
    ) -> None:
        for readout in readouts:
            if isinstance(readout, Rated):
                readout.paradigm = readout.paradigm or paradigm
        super().__init__(backbone, optimizer, readouts, warmup, decay, on_nonfinite)
        if not sampling.temperature:
            raise InputError("sampling.temperature=0 says the same thing always: give more than 0")
        self.paradigm, self.policy = paradigm, policy
        self.seed, self.table_every = rollouts.seed, rollouts.table_every
        self.objective = Objective(
            policy.beta,
            policy.clip,
            policy.aggregation,
            sampling.temperature,
            sampling.budget,
            policy.rows_at_once,
        )
        self.runner = RolloutRunner(
            backbone, paradigm, sampling, rollouts.prompts_at_once, policy.scale
        )
        self.reference = Reference(copied=policy.beta > 0 and backbone.tuning.how == "full")
        self.rollout: ScoredRollout | None = None
        self.clock, self.signal, self.taught = PhaseClock(), LearningSignal(), Taught()
        self._kept: dict[Key, Record] = {}
        self._reward = 0.0

    def setup(self, stage: str) -> None:
        """Choose what is learned from; check the rest before weights are loaded.

        Raises:
            InputError: if no sample suits the paradigm, or a second question does not fit the
                context.
        """
        super().setup(stage)
        if stage != "fit":
            return
        if self.policy.iterations > 1 and self.trainer.accumulate_grad_batches > 1:
            raise InputError(
                "model.policy.iterations and trainer.accumulate_grad_batches: set one to 1"
            )
        if not self.paradigm.updates[0] and set(self.backbone.tuning.parts) <= set(SEEING):
            raise InputError(
                f"update_pass1=false, and tuning.parts={list(self.backbone.tuning.parts)}: the "
                "second pass sees no image; train the language part"
            )
        if self.paradigm.second:
            asked = len(self.backbone.encode_chat(self.paradigm.second_prompt("")).ids)
            self.backbone.check_length(asked + self.objective.budget, self.objective.budget)
        self._choose(self.data.samples)
        # The texts of an image are what rewards compare with: they make no rows of their own.
        self.data.repeats, self.data.row_per_text = self.policy.iterations, False

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
        if self.trainer.state.fn == TrainerFn.FITTING:
            self.reference.keep(self.backbone)

    def shard(self) -> None:
        """Shard the backbone, and its copy."""
        super().shard()
        assert self.device_mesh is not None
        self.reference.shard(self.device_mesh["data_parallel"])

    def on_fit_start(self) -> None:
        """Bring the reference to where the backbone is; see `Reference.move_to`."""
        self.reference.move_to(self.device)
        super().on_fit_start()

    def compute_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The policy loss, on what is said now or was said some steps ago."""
        with self.backbone.cache_image_features():
            return self._loss(batch)

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        self.clock.reset()
        if self.global_step % self.policy.iterations == 0 or self.rollout is None:
            self.rollout = self._roll_out(batch)
            self.signal.add(self.paradigm, self.rollout)
        parts = figures(self.paradigm, self.rollout.rollout, self.rollout.rewards)
        self._reward = parts["reward"]
        losses = []
        with self.clock.measure("loss", self.device):
            for update in self.rollout.updates:
                loss, stats = update.loss(self.backbone, self.objective)
                losses.append(loss)
                parts |= {f"pass{update.number}/{name}": mean for name, mean in stats.items()}
        parts |= {f"seconds/{name}": spent for name, spent in self.clock.seconds.items()}
        tensors = {name: torch.tensor(part, device=self.device) for name, part in parts.items()}
        return torch.stack(losses).sum(), tensors

    def _roll_out(self, batch: Batch) -> ScoredRollout:
        kept, self._kept = self._kept, {}
        with self.clock.measure("rollout", self.device):
            rollout = self.runner.run(batch, f"{self.seed}/{self.global_step}", kept)
        if self.objective.beta:
            with self.clock.measure("reference", self.device):
                for update in rollout.updates:
                    update.refer(self.reference.of(self.backbone), self.objective)
        return rollout

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
        if self.rollout is not None and self.global_step % self.policy.iterations:
            checkpoint["rollout"] = self.rollout.records()

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
        signal = self.signal.take(self.device)
        if signal is None:
            return
        warning = self.taught.note(signal.differ, self._reward, signal.unread, signal.answers)
        if warning and self.global_rank == 0:
            log.warning(warning)
        if signal.differ and self.gradient_norm == 0:
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


def _answered(row: TextPrediction) -> Group:
    """A group of the one answer that a score was read from."""
    return Group(row.mos, math.nan, row.dataset, row.index, (Completion((), row.text),))
