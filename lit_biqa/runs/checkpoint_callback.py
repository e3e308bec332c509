"""Checkpoints of a run: its best weights, its last state, and early stopping."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from lit_biqa.compat.lightning import recount_steps, unwind
from lit_biqa.runs import slurm, stops
from lit_biqa.runs.folder import RunFolder
from lit_biqa.runs.stops import Stopped
from lit_biqa.types import InputError, check_range


class RunCheckpoint(Checkpoint):
    """Writes ``best.ckpt`` (weights) and ``last.ckpt`` (all that resuming needs) of a run.

    ``last.ckpt`` is written after every epoch, within epochs if ``every_n_steps`` is set, and when
    a signal ends the run (see `lit_biqa.runs.stops`). ``best.ckpt`` is written after each
    validation that beats all before it; a run without validation has none.

    Args:
        monitor: logged quantity that decides which weights are best; ``null`` writes ``last.ckpt``
            alone.
        mode: ``max`` if higher is better, ``min`` if lower is.
        patience: number of validations without a new best after which the fit ends; ``null`` for no
            limit.
        every_n_steps: also write ``last.ckpt`` every so many optimizer steps.

    Raises:
        InputError: for numbers below 1.
    """

    def __init__(
        self,
        monitor: str | None = "val/srcc",
        mode: Literal["max", "min"] = "max",
        patience: int | None = None,
        every_n_steps: int | None = None,
    ) -> None:
        check_range("checkpoint.patience", patience, 1)
        check_range("checkpoint.every_n_steps", every_n_steps, 1)
        self.monitor, self.mode = monitor, mode
        self.patience, self.every_n_steps = patience, every_n_steps
        self.best: float | None = None
        self.waited = 0
        self._saved_step = 0
        self._due = False
        self._stop = 0
        self._cut_short = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End a resumed run at once if its patience had already run out."""
        stops.wait()
        trainer.should_stop = trainer.should_stop or self._patience_is_over

    def on_train_batch_end(  # noqa: D102
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        batches = batch_idx + 1
        if batches % trainer.accumulate_grad_batches and batches < trainer.num_training_batches:
            return  # Gradients that still accumulate are in no checkpoint.
        step = trainer.global_step
        self._due = bool(self.every_n_steps) and step % (self.every_n_steps or 1) == 0
        self._stop = stops.asked(pl_module.device)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save or end if the previous step asked for it, now that its epoch is known to go on."""
        self._settle(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End if the previous epoch asked for it."""
        self._settle(trainer)
        recount_steps(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """As `on_train_batch_start`; a run that goes on repeats this validation."""
        if _fits(trainer):
            self._settle(trainer)
        else:
            stops.wait()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        """End if a signal asks for it."""
        stops.check(pl_module.device)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write ``last.ckpt``."""
        self._save(trainer, "last.ckpt")
        self._stop = stops.asked(pl_module.device)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End if the last epoch asked for it; the test can be run later."""
        self._settle(trainer)
        stops.at_once()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Have signals wait for the end of a batch, so that all ranks end together."""
        stops.wait()

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        """End if a signal asks for it."""
        stops.check(pl_module.device)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Have signals wait for the end of a batch, so that all ranks end together."""
        stops.wait()

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        """End if a signal asks for it."""
        stops.check(pl_module.device)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save the state if a signal ends a fit at a point that all ranks share."""
        if isinstance(exception, Stopped) and exception.together and _fits(trainer):
            if trainer.global_step != self._saved_step:
                self._save(trainer, "last.ckpt", cut_short=True)
            if trainer.is_global_zero:
                slurm.requeue(exception.number)

    def _settle(self, trainer: pl.Trainer) -> None:
        if self._due and trainer.global_step != self._saved_step:
            self._save(trainer, "last.ckpt", cut_short=True)
        self._due = False
        if self._stop:
            raise Stopped(self._stop, together=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the weights if they are the best so far; end the fit if patience has run out.

        Raises:
            InputError: if the monitored quantity was not logged.
        """
        if not _fits(trainer) or self.monitor is None:
            return
        logged = trainer.callback_metrics
        if self.monitor not in logged:
            raise InputError(
                f"checkpoint.monitor names {self.monitor!r}, which validation did not log; choose "
                f"from {', '.join(name for name in logged if name.startswith('val/'))}."
            )
        value = float(logged[self.monitor])
        # A rank that decided differently from the others would wait for them for ever.
        if trainer.strategy.reduce_boolean_decision(self._is_better(value)):
            self.best, self.waited = value, 0
            self._save(trainer, "best.ckpt", weights_only=True)
        else:
            self.waited += 1
        trainer.should_stop = trainer.should_stop or self._patience_is_over

    @property
    def _patience_is_over(self) -> bool:
        return self.patience is not None and self.waited >= self.patience

    def _is_better(self, value: float) -> bool:
        # A first result of nan still writes weights; any later result replaces it.
        if self.best is None or math.isnan(self.best):
            return True
        return value > self.best if self.mode == "max" else value < self.best

    def _save(
        self,
        trainer: pl.Trainer,
        name: str,
        weights_only: bool = False,
        cut_short: bool = False,
    ) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        folder = RunFolder(Path(trainer.default_root_dir)).checkpoints
        self._cut_short = cut_short
        trainer.save_checkpoint(folder / name, weights_only)
        if not weights_only:
            self._saved_step, self._due = trainer.global_step, False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Rewind the progress of an epoch that is cut short, so that a resumed run repeats it."""
        if self._cut_short:
            unwind(checkpoint["loops"]["fit_loop"], trainer.validating)

    def state_dict(self) -> dict[str, Any]:
        """Best result so far, so that a resumed run does not overwrite it with a worse one."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best result of the resumed run."""
        self.best, self.waited = state_dict["best"], state_dict["waited"]


def _fits(trainer: pl.Trainer) -> bool:
    return trainer.state.fn == "fit" and not trainer.sanity_checking
