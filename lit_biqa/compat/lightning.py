"""What is taken from the inside of Lightning: the progress of its loops, and what it says."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, Strategy

from lit_biqa.compat.versions import check

check("lightning")


def batches_completed(trainer: Trainer) -> int:
    """Training batches that a fit has completed in all, runs before a resumption included."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.completed


def batches_of_epoch(trainer: Trainer) -> int:
    """Training batches of the running epoch that have begun."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready


def recount_steps(trainer: Trainer) -> None:
    """Have loggers count optimizer steps.

    Where a run goes on at an epoch's end Lightning counts the step before twice.
    """
    trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


def unwind(loops: dict[str, Any], validating: bool) -> None:
    """Count what has begun and not ended as not begun, in the progress that a checkpoint holds.

    Lightning goes on with what it takes for done: from between a batch and the validation that
    follows it, it would leave the validation out.

    Args:
        loops: state of Lightning's fit loop, changed in place.
        validating: whether a validation is to be begun again.
    """
    if validating:
        progress = loops["epoch_loop.val_loop.batch_progress"]
        before = progress["total"]["completed"] - progress["current"]["completed"]
        # A first batch under way is what makes Lightning validate first.
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
    """Make a trainer that has fitted let go of the optimizers, before it tests."""
    trainer.strategy.optimizers = []


def allow_unused(strategy: Strategy) -> None:
    """Have DDP wait for no gradient that a rank does not make.

    What no rank has used keeps no gradient, as on one process; what some have is averaged with
    zeros of the others. It costs DDP a walk through the graph in each step. FSDP2 needs none: all
    ranks run all parts there, see `lit_biqa.backbones.sharded.Sharded.anyone`.
    """
    if isinstance(strategy, DDPStrategy):
        strategy._ddp_kwargs["find_unused_parameters"] = True


def processes_of(trainer: Trainer) -> list[Any]:
    """The other processes that a trainer has started on this machine."""
    return list(getattr(trainer.strategy.launcher, "procs", []))


def quieten() -> None:
    """Leave out advertisements of other products, and warnings of Lightning's own use of torch."""
    log = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    log.addFilter(lambda record: "Tip: For seamless" not in record.getMessage())
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`")
