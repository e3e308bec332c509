"""The Trainer of a command: arguments beside its settings, and checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from lit_biqa.callbacks import (
    OverlapReport,
    PredictionWriter,
    ProgressBar,
    ResourceMeter,
    RolloutTable,
    Watchdog,
)
from lit_biqa.cli.loggers import loggers
from lit_biqa.compat.jsonargparse import Namespace
from lit_biqa.runs.checkpoints import WholeCheckpointIO, refuse_sharded


def arguments_of(settings: Namespace, run: Path, command: str) -> dict[str, Any]:
    """Arguments for a Trainer that writes into the run folder, and checkpoints whole.

    Args:
        settings: settings of the Trainer, instantiated.
        run: run folder.
        command: name of the subcommand.
    """
    ours = [OverlapReport(), PredictionWriter(), ResourceMeter(), RolloutTable()]
    callbacks = [*_listed(settings.callbacks), *ours]
    if settings.enable_progress_bar is not False:
        callbacks.append(ProgressBar())
    return {
        "default_root_dir": run,
        "logger": loggers(settings.logger, run, command),
        "callbacks": callbacks,
        "plugins": [*_listed(settings.plugins), WholeCheckpointIO()],
    }


def check(trainer: Trainer) -> None:
    """Refuse a strategy that writes checkpoint folders, and set the timeout of its process group.

    Raises:
        InputError: for such a strategy.
    """
    refuse_sharded(trainer.strategy)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Watchdog):
            callback.patient(trainer.strategy)


def _listed(value: Any) -> list[Any]:
    """A setting with none, one or several values, as a list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
