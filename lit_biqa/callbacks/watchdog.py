"""Watchdog: ends processes that wait for each other, with a line that says where."""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.strategies import Strategy
from torch.distributed import default_pg_timeout

from lit_biqa.distributed import alive, silent_for
from lit_biqa.types import InputError

_STAGES = ("train", "validation", "test", "predict")
_MARGIN = 60.0  # seconds that the process group waits longer, so that the watchdog reports first
_COURTESY = 2.0  # seconds between the message and the exit
_SIGNS = [
    *(f"on_{stage}_batch_{end}" for stage in _STAGES for end in ("start", "end")),
    *(f"on_{stage}_{end}" for stage in _STAGES for end in ("start", "end")),
]  # hooks that count as progress
_EVER = timedelta(days=365)


class Watchdog(pl.Callback):
    """Ends a run on several processes if one of them makes no progress for a long time.

    A process in a collective operation waits for ever if another process has died or takes another
    path. Each process watches itself, so that all of them end, each with a line that names step and
    rank. The beginning and the end of every batch count as progress.

    Args:
        timeout: seconds without progress; 0 waits for ever.

    Raises:
        InputError: for a negative timeout.
    """

    def __init__(self, timeout: float = 1800.0) -> None:
        if not timeout >= 0:
            raise InputError(f"watchdog.timeout={timeout}: give seconds, or 0 to wait for ever")
        self.timeout = timeout
        self._done = threading.Event()
        for hook in _SIGNS:
            setattr(self, hook, self._alive)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Start to watch, if there is more than one process."""
        if trainer.world_size > 1 and self.timeout:
            alive()
            self._done = threading.Event()
            watch = threading.Thread(target=self._watch, args=(trainer, self._done), daemon=True)
            watch.start()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stop watching: one process may do what follows alone."""
        self._done.set()

    def on_exception(self, *_: Any) -> None:
        """Stop watching."""
        self._done.set()

    def _watch(self, trainer: pl.Trainer, done: threading.Event) -> None:
        while not done.wait(min(1.0, self.timeout / 4)):
            if silent_for() > self.timeout:
                print(f"error: {self._message(trainer)}", file=sys.stderr, flush=True)
                # Give the other processes time for their message.
                time.sleep(_COURTESY)
                # The main thread hangs in a wait that nothing else can end.
                os._exit(1)

    def _message(self, trainer: pl.Trainer) -> str:
        doing = trainer.state.stage.value if trainer.state.stage else "start"
        return (
            f"rank {trainer.global_rank} of {trainer.world_size} has made no progress for "
            f"{self.timeout:g} s in step {trainer.global_step + 1} ({doing}): another process has "
            "ended or is elsewhere, so that all processes are ended. Resume with --ckpt_path last; "
            "if one batch takes longer than that, raise --watchdog.timeout."
        )

    def patient(self, strategy: Strategy) -> None:
        """Raise the timeout of a strategy's process group above the watchdog's, unless it was set.

        Args:
            strategy: strategy of a Trainer that has not started its processes.
        """
        if getattr(strategy, "_timeout", None) == default_pg_timeout:
            longest = timedelta(seconds=self.timeout + _MARGIN) if self.timeout else _EVER
            strategy._timeout = longest  # type: ignore[attr-defined]

    def _alive(self, *_: Any) -> None:
        alive()
