"""What every method that trains shares: loading and sharding, the step, the schedule."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lit_biqa.compat.lightning import allow_unused, forget_optimizers
from lit_biqa.distributed import gradient_norm
from lit_biqa.methods.evaluation import Evaluator
from lit_biqa.methods.finite import OnNonfinite, Watch
from lit_biqa.methods.optimizer import made_on_trial
from lit_biqa.types import Batch, InputError, check_range

Decay = Literal["none", "linear", "cosine"]


def schedule(step: int, steps: int, warmup: float, decay: Decay) -> float:
    """Share of the learning rate at a step.

    Args:
        step: from 0.
        steps: of the whole run.
        warmup: share of the steps over which the rate rises from 0.
        decay: how it falls to 0 over the rest.
    """
    rise = round(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    done = min(1.0, (step - rise) / max(1, steps - rise))
    return {"none": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[decay]


class Method(Evaluator):
    """A way to predict MOS; a subclass is its loss and its reading of a score.

    Args:
        optimizer: made from the parameters that are trained.
        warmup: share of the steps over which the learning rate rises.
        decay: how it falls afterwards.
        on_nonfinite: what to do about a step whose loss or gradient is not finite: ``stop`` the
            fit, or ``skip`` the step. Either way weights stay as they were before it.

    Attributes:
        in_bar: parts of the loss that the progress bar shows beside it.

    Raises:
        InputError: if the optimizer refuses its settings, or ``warmup`` is no share.
    """

    in_bar: tuple[str, ...] = ()

    def __init__(
        self,
        optimizer: OptimizerCallable,
        warmup: float,
        decay: Decay,
        on_nonfinite: OnNonfinite = "stop",
    ) -> None:
        super().__init__()
        check_range("model.warmup", warmup, 0, 1)
        made_on_trial(optimizer)
        self.make_optimizer, self.warmup, self.decay = optimizer, warmup, decay
        self.watch = Watch(on_nonfinite)

    @property
    def leaves_unused(self) -> bool:
        """Whether a step of a fit, on some rank, may use but a part of what is trained."""
        return False

    @abstractmethod
    def load(self) -> None:
        """Make the modules and read their weights. Called once, after settings are checked."""

    @abstractmethod
    def shard(self) -> None:
        """Shard the parameters over ``self.device_mesh``."""

    @abstractmethod
    def compute_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch, a scalar, and its parts to be logged."""

    @abstractmethod
    def ship(self, folder: Path, state: dict[str, Tensor]) -> None:
        """After a fit, on rank zero: write what users take home into the run's folder.

        Args:
            folder: of the run.
            state: weights of the best checkpoint, whole and on the CPU.
        """

    def configure_model(self) -> None:
        """Load once; shard where the strategy has a device mesh."""
        if self.trainer.state.fn != TrainerFn.FITTING:
            # With those of a fit, FSDP2 would look for their state in a file of weights alone.
            forget_optimizers(self.trainer)
        if self.leaves_unused:
            allow_unused(self.trainer.strategy)
        if any(True for _ in self.parameters()):
            return
        self.load()
        if self.device_mesh is not None:
            self.shard()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer over what is trained, and the schedule over the steps of the run."""
        trained = [p for p in self.parameters() if p.requires_grad]
        if not trained:
            return None
        optimizer = self.make_optimizer(trained)
        steps = self.trainer.estimated_stepping_batches
        if math.isinf(steps):
            raise InputError("the schedule needs an end: set trainer.max_epochs or max_steps.")
        scheduler = LambdaLR(optimizer, lambda n: schedule(n, int(steps), self.warmup, self.decay))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step, then let go of the gradients.

        Lightning keeps them until the next backward pass, beside the activations of the forward
        pass: memory of another set of the trained weights.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        optimizer.zero_grad()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss, logged with its parts."""
        loss, parts = self.compute_loss(batch)
        self.watch.see(loss, parts, batch)
        size = len(batch["index"])
        self.log("train/loss", loss, prog_bar=True, batch_size=size, sync_dist=True)
        for name, part in parts.items():
            bar = name in self.in_bar
            self.log(f"train/{name}", part, prog_bar=bar, batch_size=size, sync_dist=True)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the norm of the gradient; let no step happen whose loss or gradient is not finite.

        Raises:
            TrainingError: for such a step, unless it is to be skipped.
        """
        self.gradient_norm = gradient_norm(self.parameters())
        self.log("train/grad_norm", self.gradient_norm)
        skipped = self.watch.judge(self, self.gradient_norm)
        if skipped:
            # Optimizers pass over weights without a gradient; of zeros they would make a step.
            optimizer.zero_grad(set_to_none=True)
        if self.watch.on_nonfinite == "skip":
            self.log("train/skipped", float(self.watch.skipped))

    def on_train_end(self) -> None:
        """Say how many steps were skipped."""
        if self.watch.skipped:
            self.print(
                f"{self.watch.skipped} of {self.global_step} steps were skipped: their loss or "
                "gradient was not finite"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep how many steps were skipped."""
        checkpoint["skipped"] = self.watch.skipped

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        self.trained_steps = checkpoint.get("global_step", 0)
        self.watch.skipped = checkpoint.get("skipped", 0)
