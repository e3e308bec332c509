"""An end to waiting: processes that no longer keep step are ended, with a line that says where."""

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
_MARGIN = 60.0  # seconds by which the process group waits longer, so that this speaks first
_COURTESY = 2.0  # seconds between the message and the end
_SIGNS = [
    *(f"on_{stage}_batch_{end}" for stage in _STAGES for end in ("start", "end")),
    *(f"on_{stage}_{end}" for stage in _STAGES for end in ("start", "end")),
]  # hooks that are progress
_EVER = timedelta(days=365)


class Watchdog(pl.Callback):
    """Ends a run on several processes in which one makes no progress for long.

    One that waits for others in a collective operation would wait for ever where another has died
    or has gone another way. Each process watches itself, so all of them end, each with a line that
    names step and rank. Progress is the beginning and the end of every batch.

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
        """Begin to watch, where there is more than one process."""
        if trainer.world_size > 1 and self.timeout:
            alive()
            self._done = threading.Event()
            watch = threading.Thread(target=self._watch, args=(trainer, self._done), daemon=True)
            watch.start()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Watch no longer: what follows, one process may do alone."""
        self._done.set()

    def on_exception(self, *_: Any) -> None:
        """Watch no longer."""
        self._done.set()

    def _watch(self, trainer: pl.Trainer, done: threading.Event) -> None:
        while not done.wait(min(1.0, self.timeout / 4)):
            if silent_for() > self.timeout:
                print(f"error: {self._message(trainer)}", file=sys.stderr, flush=True)
                # The others speak too, before they miss this one.
                time.sleep(_COURTESY)
                # The main thread hangs in a wait that nothing else ends.
                os._exit(1)

    def _message(self, trainer: pl.Trainer) -> str:
        doing = trainer.state.stage.value if trainer.state.stage else "start"
        return (
            f"rank {trainer.global_rank} of {trainer.world_size} has made no progress for "
            f"{self.timeout:g} s in step {trainer.global_step + 1} ({doing}): another process has "
            "ended or does something else, and all are ended. Resume with --ckpt_path last; where "
            "one batch takes longer than that, set --watchdog.timeout to more seconds."
        )

    def patient(self, strategy: Strategy) -> None:
        """Have the process group of a strategy wait a little longer, unless it was told how long.

        Args:
            strategy: of a Trainer that has not started its processes.
        """
        if getattr(strategy, "_timeout", None) == default_pg_timeout:
            longest = timedelta(seconds=self.timeout + _MARGIN) if self.timeout else _EVER
            strategy._timeout = longest  # type: ignore[attr-defined]

    def _alive(self, *_: Any) -> None:
        alive()
