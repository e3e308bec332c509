"""Internals of Lightning: the progress of its loops, its processes and its messages."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, Strategy

from lit_biqa.compat.versions import check

check("lightning")


def batches_completed(trainer: Trainer) -> int:
    """Number of training batches that a fit has completed, including those before a resumption."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.completed


def batches_of_epoch(trainer: Trainer) -> int:
    """Number of training batches of the current epoch that have begun."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready


def recount_steps(trainer: Trainer) -> None:
    """Correct the step count of the loggers after a resumption.

    When a run resumes at the end of an epoch, Lightning counts the previous step twice.
    """
    trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


def unwind(loops: dict[str, Any], validating: bool) -> None:
    """Rewind the progress in a checkpoint, so that unfinished work counts as not begun.

    Lightning resumes after everything that its progress counts as done: from a checkpoint between a
    batch and the validation after it, the validation would be skipped.

    Args:
        loops: state of Lightning's fit loop, changed in place.
        validating: true to begin the current validation again.
    """
    if validating:
        progress = loops["epoch_loop.val_loop.batch_progress"]
        before = progress["total"]["completed"] - progress["current"]["completed"]
        # Lightning validates first if a first batch has begun.
        for counts, done in (("current", 0), ("total", before)):
            begun = {"ready": done + 1, "started": done + 1}
            progress[counts] = {**begun, "processed": done, "completed": done}
        progress["is_last_batch"] = False
        return
    batches, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    if batches["current"]["ready"] > batches["current"]["completed"]:
        batches["is_last_batch"] = False
    for counts in ("current", "total"):
        done = batches[counts]["completed"]
        batches[counts] = dict.fromkeys(batches[counts], done)
        epochs[counts]["processed"] = epochs[counts]["completed"]


def forget_optimizers(trainer: Trainer) -> None:
    """Release the optimizers of a trainer after its fit, before its test."""
    trainer.strategy.optimizers = []


def allow_unused(strategy: Strategy) -> None:
    """Have DDP accept parameters without a gradient.

    A parameter that no rank used has no gradient, as on one process; one that some ranks used gets
    the average with zeros of the others. DDP walks through the graph in each step for this. FSDP2
    needs no such setting: all ranks run all parts there, see
    `lit_biqa.backbones.sharded.Sharded.anyone`.
    """
    if isinstance(strategy, DDPStrategy):
        strategy._ddp_kwargs["find_unused_parameters"] = True


def reshards_after_forward(strategy: object) -> bool:
    """False for an FSDP2 strategy that keeps blocks whole until their backward pass.

    Lightning's own strategy has no such setting; a strategy may also be named by a word.
    """
    return getattr(strategy, "reshard_after_forward", True)


def processes_of(trainer: Trainer) -> list[Any]:
    """Other processes that a trainer has started on this machine."""
    return list(getattr(trainer.strategy.launcher, "procs", []))


def quieten() -> None:
    """Hide advertisements of other products, and warnings about Lightning's own use of torch."""
    log = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    log.addFilter(lambda record: "Tip: For seamless" not in record.getMessage())
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`")
