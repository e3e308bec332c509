"""Base of methods that train: loading, sharding, training step and schedule."""

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

from lit_biqa.compat.lightning import allow_unused, forget_optimizers, reshards_after_forward
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.frozen_features import FrozenNetwork
from lit_biqa.distributed import gradient_norm
from lit_biqa.methods.evaluation import Evaluator
from lit_biqa.methods.finite import OnNonfinite, Watch
from lit_biqa.methods.optimizer import made_on_trial
from lit_biqa.types import Batch, InputError, check_range

Decay = Literal["none", "linear", "cosine"]


def schedule(step: int, steps: int, warmup: float, decay: Decay) -> float:
    """Factor of the learning rate at a step.

    Args:
        step: number of the step, from 0.
        steps: number of steps of the whole run.
        warmup: share of the steps over which the rate rises from 0.
        decay: shape of its decay to 0 over the rest.
    """
    rise = round(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    done = min(1.0, (step - rise) / max(1, steps - rise))
    return {"none": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[decay]


class Method(Evaluator):
    """Base of methods that train; a subclass adds its loss and the rows of its predictions.

    Args:
        optimizer: factory of the optimizer, from the trained parameters.
        warmup: share of the steps over which the learning rate rises.
        decay: shape of its decay afterwards.
        on_nonfinite: handling of a step whose loss or gradient is not finite: ``stop`` the fit, or
            ``skip`` the step. Either way the step changes no weight.

    Attributes:
        in_bar: parts of the loss that the progress bar shows.

    Raises:
        InputError: if the optimizer refuses its settings, or ``warmup`` is outside [0, 1].
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
        """True if a step may leave trained parameters of some rank without a gradient."""
        return False

    @abstractmethod
    def load(self) -> None:
        """Make the modules and read their weights; called once, after settings are checked."""

    def frozen_network(self) -> FrozenNetwork | None:
        """Network whose features of an image are computed once; ``None`` to read pixels."""
        return None

    @abstractmethod
    def shard(self) -> None:
        """Shard the parameters over ``self.device_mesh``."""

    @abstractmethod
    def compute_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch, a scalar, and its parts for logging."""

    @abstractmethod
    def ship(self, folder: Path, state: dict[str, Tensor]) -> None:
        """Export files for users into the run folder, after a fit, on rank zero.

        Args:
            folder: run folder.
            state: weights of the best checkpoint, whole and on the CPU.
        """

    @property
    def fitting(self) -> bool:
        """True within a fit; false in a test, and where no Trainer runs the method."""
        return self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING

    @property
    def reshard_after_forward(self) -> bool:
        """False if FSDP2 keeps blocks whole until their backward pass."""
        return reshards_after_forward(self.trainer.strategy)

    def configure_model(self) -> None:
        """Load the weights once, and shard them if the strategy has a device mesh."""
        if not self.fitting:
            # With the optimizers of a fit, FSDP2 would look for their state in a file of weights
            # only.
            forget_optimizers(self.trainer)
        elif self.leaves_unused:  # a test has no training images to ask
            allow_unused(self.trainer.strategy)
        if any(True for _ in self.parameters()):
            return
        self.load()
        if (network := self.frozen_network()) is not None:
            data: BIQADataModule = self.trainer.datamodule  # type: ignore[attr-defined]
            data.use_features(network, self.trainer.strategy.root_device)
        if self.device_mesh is not None:
            self.shard()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimizer over the trained parameters, and schedule over the steps of the run."""
        trained = [p for p in self.parameters() if p.requires_grad]
        if not trained:
            return None
        optimizer = self.make_optimizer(trained)
        steps = self.trainer.estimated_stepping_batches
        if math.isinf(steps):
            raise InputError("the schedule needs a last step: set trainer.max_epochs or max_steps.")
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
        """Step, then release the gradients.

        Lightning keeps gradients until the next backward pass, beside the activations of the
        forward pass, which takes memory for another set of the trained weights.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        optimizer.zero_grad()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of the batch, logged with its parts."""
        loss, parts = self.compute_loss(batch)
        self.watch.see(loss, parts, batch)
        size = len(batch["index"])
        self.log("train/loss", loss, prog_bar=True, batch_size=size, sync_dist=True)
        for name, part in parts.items():
            bar = name in self.in_bar
            self.log(f"train/{name}", part, prog_bar=bar, batch_size=size, sync_dist=True)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the gradient norm, and prevent a step whose loss or gradient is not finite.

        Raises:
            TrainingError: for such a step, unless ``on_nonfinite`` skips it.
        """
        self.gradient_norm = gradient_norm(self.parameters())
        self.log("train/grad_norm", self.gradient_norm)
        skipped = self.watch.judge(self, self.gradient_norm)
        if skipped:
            # Optimizers skip weights without a gradient; a zero gradient would still make a step.
            optimizer.zero_grad(set_to_none=True)
        if self.watch.on_nonfinite == "skip":
            self.log("train/skipped", float(self.watch.skipped))

    def on_train_end(self) -> None:
        """Print the number of skipped steps."""
        if self.watch.skipped:
            self.print(
                f"{self.watch.skipped} of {self.global_step} steps were skipped: their loss or "
                "gradient was not finite"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the number of skipped steps."""
        checkpoint["skipped"] = self.watch.skipped

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the number of trained and skipped steps."""
        self.trained_steps = checkpoint.get("global_step", 0)
        self.watch.skipped = checkpoint.get("skipped", 0)
