"""Group-relative policy optimisation: rollout, rewards, advantages, policy loss."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim import Optimizer

from lit_biqa.backbones.tuning import SEEING
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.evaluation.conditions import Condition
from lit_biqa.methods.base import Decay
from lit_biqa.methods.chat import ChatMethod
from lit_biqa.methods.finite import OnNonfinite
from lit_biqa.methods.grpo.clock import PhaseClock
from lit_biqa.methods.grpo.reference import Reference
from lit_biqa.methods.grpo.rollouts import RolloutRunner, ScoredRollout
from lit_biqa.methods.grpo.settings import PolicySettings, RolloutSettings
from lit_biqa.methods.grpo.signal import LearningSignal
from lit_biqa.methods.grpo.taught import Taught
from lit_biqa.methods.grpo.validation import ValidationRewards
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
    InputError,
    Prediction,
    Sample,
    TextPrediction,
    TrainingError,
)

log = logging.getLogger(__name__)


class GRPO(ChatMethod):
    """Group-relative policy optimisation on image quality.

    A step samples several completions for each image of a batch, rewards them, and raises the
    probability of those with a higher reward than the rest of their group. The loss is the mean
    over the completions of the whole batch, summed over trained passes, for any number of processes
    and any sharding.

    Args:
        backbone: the vision-language model to train.
        paradigm: prompts, captions and rewards.
        optimizer: factory of the optimizer.
        readouts: readouts of a test; the first also in validation.
        sampling: sampling of tokens in training.
        rollouts: number of chats run together, seed, and interval of completion tables.
        policy: settings of the loss, and number of optimizer steps on the same completions.
        warmup: share of the steps over which the learning rate rises.
        decay: shape of its decay afterwards.
        on_nonfinite: ``stop`` the fit at a step that is not finite, or ``skip`` it.

    Source: DeepSeekMath (Shao et al., 2024), as in the code of Q-Insight and *Understanding Pure
    Textual Reasoning*.

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
            raise InputError("sampling.temperature=0 gives equal completions: give more than 0")
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
        self.validation_rewards = ValidationRewards(paradigm, next(iter(readouts), None))
        self.clock, self.signal, self.taught = PhaseClock(), LearningSignal(), Taught()
        self._kept: dict[Key, Record] = {}
        self._reward = 0.0

    def setup(self, stage: str) -> None:
        """Keep the samples that suit the paradigm, and check everything that needs no weights.

        Raises:
            InputError: if no sample suits the paradigm, or a second prompt does not fit the
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
        # The texts of an image are references of rewards, not rows of their own.
        self.data.repeats, self.data.row_per_text = self.policy.iterations, False

    def _choose(self, samples: dict[str, list[Sample]]) -> None:
        name, train = type(self.paradigm).__name__, samples["train"]
        suited = self.paradigm.suited(train)
        if not suited:
            raise InputError(f"none of {len(train)} training samples suits {name}")
        if len(suited) < len(train):
            log.warning("%d of %d samples suit %s", len(suited), len(train), name)
        samples["train"] = suited

    @property
    def leaves_unused(self) -> bool:
        """True if only the second pass is trained, which sees no image."""
        return not self.paradigm.updates[0]

    def question(self, batch: Batch, row: int) -> Chat:
        """See `ChatMethod`; the paradigm's first prompt, with the MOS masked."""
        return self.paradigm.question(batch, row)

    def load(self) -> None:
        """Read the weights and, in a fit, copy them for the reference if needed."""
        super().load()
        if not self.paradigm.updates[0]:
            # A second pass sees no image: DDP would wait for its gradients, and weight decay would
            # act.
            for part in SEEING:
                for module in self.backbone.parts[part]:
                    module.requires_grad_(False)
        if self.fitting:
            self.reference.keep(self.backbone)

    def shard(self) -> None:
        """Shard the backbone and the reference."""
        super().shard()
        assert self.device_mesh is not None
        self.reference.shard(self.device_mesh["data_parallel"], self.gathered)

    def on_fit_start(self) -> None:
        """Move the reference to the device of the backbone; see `Reference.move_to`."""
        self.reference.move_to(self.device)
        super().on_fit_start()

    def compute_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Policy loss on new completions, or on those of an earlier step."""
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
            reference = self.reference.of(self.backbone)
            with self.clock.measure("reference", self.device), reference.keep_whole():
                for update in rollout.updates:
                    update.refer(reference, self.objective)
        return rollout

    def on_validation_epoch_start(self) -> None:
        """Forget the rewards of the last validation."""
        self.validation_rewards.reset()

    def validation_step(  # type: ignore[override]
        self, batch: Batch, batch_idx: int
    ) -> list[Prediction]:
        """Rows of the first readout, whose answers are rewarded; see `ValidationRewards`."""
        rows = super().validation_step(batch, batch_idx)
        answers = [
            row.text
            for row in rows
            if isinstance(row, TextPrediction) and Condition.parse(row.condition).reads_image
        ]
        self.validation_rewards.add(batch, answers)
        return rows

    def on_validation_epoch_end(self) -> None:
        """Log the mean rewards as ``val/reward/<slot>``."""
        for name, mean in self.validation_rewards.means().items():
            # Equal on every rank already; without sync_dist Lightning would warn.
            self.log(f"val/reward/{name}", mean, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the completions, of all ranks, that the next steps still use."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["taught"] = self.taught.state()
        if self.rollout is not None and self.global_step % self.policy.iterations:
            checkpoint["rollout"] = self.rollout.records()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the completions that the next steps still use."""
        super().on_load_checkpoint(checkpoint)
        self.taught.restore(checkpoint.get("taught", {}))
        self._kept = {record["key"]: record for record in checkpoint.get("rollout", ())}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """See `Method`; raise an error if there is a learning signal but no gradient.

        Raises:
            TrainingError: if rewards differ within a group but all gradients are zero.
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
                "rewards differ within groups, but all gradients are zero, so that nothing would "
                "be learned. Check that tuning.parts trains a part of the model that the passes "
                "run through, and that the loss reaches it."
            )

    def on_train_end(self) -> None:
        """Warn if nothing was learned."""
        super().on_train_end()
        if self.global_rank == 0 and (verdict := self.verdict()):
            log.warning(verdict)

    def verdict(self) -> str:
        """See `Evaluator`: without different rewards in any group, nothing was learned."""
        return self.taught.verdict()

    def rollout_rows(self) -> Iterator[dict[str, str]]:
        """Completions of the last step; see `RolloutTable`."""
        if self.rollout is not None:
            yield from table(self.paradigm, self.rollout.rollout, self.rollout.rewards)
