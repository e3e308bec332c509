"""Loader that resumes an interrupted run and reports errors of workers in one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from lit_biqa.compat.lightning import batches_completed, batches_of_epoch
from lit_biqa.distributed import GlobalBatchSampler
from lit_biqa.runs import stops
from lit_biqa.types import InputError


class ResumingSampler(GlobalBatchSampler):
    """Training batches from the position that the trainer has reached.

    The epoch and the number of batches to skip follow from the number of batches that the trainer
    has completed in all, which checkpoints hold. Lightning's own epoch count does not work: after a
    resumption from the end of an epoch it can be off by one.

    Args:
        trainer: trainer whose progress is followed; other arguments as in `GlobalBatchSampler`,
            always shuffled.
        repeats: number of times that each batch is given in a row.
    """

    def __init__(
        self,
        trainer: Trainer | None,
        size: int,
        batch_size: int,
        seed: int,
        lengths: Sequence[int] | None = None,
        repeats: int = 1,
    ) -> None:
        super().__init__(size, batch_size, True, seed, drop_last=True, lengths=lengths)
        self.trainer, self.repeats = trainer, repeats

    def __len__(self) -> int:
        return self.batches * self.repeats

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        if self.trainer is not None:
            completed = batches_completed(self.trainer)
            epoch_length = min(len(self), self.trainer.num_training_batches)
            if batches_of_epoch(self.trainer) >= epoch_length:
                return  # A run that resumes at the end of an epoch has no batch of it left.
            self.epoch, self.skip = divmod(completed, int(epoch_length))
        self.skip, done = divmod(self.skip, self.repeats)
        for batch in super().__iter__():
            yield from [batch] * (self.repeats - done)
            done = 0


class BatchLoader(DataLoader[Any]):
    """DataLoader that starts late, can be resumed, and reports errors in one line.

    Iteration begins at the first batch, not when the iterator is made: Lightning makes it while it
    still restores its progress, and workers would read ahead in the order of another epoch. Errors
    of bad input keep their own message instead of a worker's traceback. Workers outlive the signals
    that end a fit, and end with this process.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.worker_init_fn = stops.outlive_signals
        try:
            with stops.held_back():
                batches = super().__iter__()
            yield from batches
        except InputError as error:
            raise InputError(str(error).strip().rpartition("InputError: ")[2]) from error

    def state_dict(self) -> dict[str, Any]:
        """Empty state, since the trainer holds the position; its presence tells Lightning so."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore; see `ResumingSampler`."""
