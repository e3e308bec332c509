"""Work shared among processes: batches for each rank, and results gathered from all ranks."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.utils import get_total_norm

from lit_biqa.types import InputError

Row = TypeVar("Row")

WINDOW = 50
"""Number of batches sorted by length together: more pad less, fewer mix lengths better."""


def world() -> tuple[int, int]:
    """Rank of this process and number of processes; (0, 1) outside a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def barrier() -> None:
    """Wait for all ranks."""
    if world()[1] > 1:
        dist.barrier()


def leave_group() -> None:
    """Leave the process group before the interpreter ends.

    Threads of gloo that outlive the interpreter sometimes abort the process, with an exit status by
    which a launcher takes a finished run for a failed one. Lightning leaves NCCL groups by itself.
    """
    if dist.is_available() and dist.is_initialized() and dist.get_backend() == "gloo":
        dist.destroy_process_group()


_progress = time.monotonic()


def alive() -> None:
    """Report progress of this process; for loops that take long within one batch."""
    global _progress
    _progress = time.monotonic()


def silent_for() -> float:
    """Seconds since this process last reported progress."""
    return time.monotonic() - _progress


def highest(number: int, device: torch.device) -> int:
    """Largest of the ranks' numbers, on every rank.

    Args:
        number: number of this rank.
        device: for the communication between ranks.
    """
    if world()[1] == 1:
        return number
    value = torch.tensor(number, device=device)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return int(value)


class GlobalBatchSampler:
    """Batches over all processes, so that results do not depend on the number of processes.

    ``batch_size`` counts the samples of one step over all ranks. The order of an epoch depends only
    on ``(seed, epoch)``, and the first ``skip`` batches can be left out, so that a run that was
    killed within an epoch resumes with the very next batch. Each item is ``(index, draw)``:
    ``draw`` is the number of the epoch, for augmentations that must not depend on worker or rank.

    Args:
        size: number of samples.
        batch_size: number of samples per step over all ranks.
        shuffle: true for a new order each epoch; false for the order of the data set.
        seed: seed of the order.
        drop_last: leave out the last, smaller batch. If it is kept, samples from the front are
            repeated until it divides among the ranks; readers drop the repeats by index.
        rank: rank of this process; ``None`` asks the process group.
        ranks: number of processes; ``None`` asks the process group.
        lengths: lengths of the samples, in any unit. Batches then hold samples of similar length
            and come in random order: of the shuffled epoch, every `WINDOW` batches are sorted by
            length and cut anew. The samples of an epoch stay the same.

    Raises:
        InputError: if a batch cannot be divided among the ranks.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        drop_last: bool = False,
        rank: int | None = None,
        ranks: int | None = None,
        lengths: Sequence[int] | None = None,
    ) -> None:
        group_rank, group_size = world()
        self.rank = group_rank if rank is None else rank
        self.ranks = group_size if ranks is None else ranks
        if batch_size < 1 or batch_size % self.ranks:
            raise InputError(
                f"batch_size={batch_size} cannot be divided among {self.ranks} processes: "
                f"it counts the samples of one step over all of them; take a multiple of "
                f"{self.ranks}."
            )
        if drop_last and size < batch_size and size % self.ranks:
            raise InputError(
                f"{size} training samples are fewer than batch_size={batch_size} and cannot be "
                f"divided among {self.ranks} processes without a repeat: set "
                f"batch_size to at most {size - size % self.ranks}."
            )
        self.size, self.batch_size, self.shuffle, self.seed = size, batch_size, shuffle, seed
        self.drop_last, self.lengths = drop_last and size >= batch_size, lengths
        self.epoch = 0
        self.skip = 0
        # Lightning calls set_epoch on `dataloader.batch_sampler.sampler`.
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose order the next iteration follows."""
        self.epoch = epoch

    @property
    def batches(self) -> int:
        """Number of batches per epoch."""
        full, rest = divmod(self.size, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __len__(self) -> int:
        return self.batches

    def order(self) -> list[int]:
        """Sample indices of this epoch over all ranks, cut or repeated as its batches need them."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = list(range(self.size))
        if self.shuffle:
            order = torch.randperm(self.size, generator=generator).tolist()
        if self.drop_last:
            order = order[: self.batches * self.batch_size]
        elif order:
            order += [order[i % self.size] for i in range(-self.size % self.ranks)]
        return self._grouped(order, self.lengths, generator) if self.lengths else order

    def _grouped(
        self, order: list[int], lengths: Sequence[int], generator: torch.Generator
    ) -> list[int]:
        """The same samples in batches of similar length; a smaller batch stays last."""
        window, size = WINDOW * self.batch_size, self.batch_size
        for start in range(0, len(order), window):
            part = slice(start, start + window)
            order[part] = sorted(order[part], key=lambda index: lengths[index])
        full = len(order) // size
        places = torch.randperm(full, generator=generator).tolist()
        shuffled = [i for place in places for i in order[place * size : (place + 1) * size]]
        return shuffled + order[full * size :]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, draw = self.order(), self.epoch
        skip, self.skip = self.skip, 0
        for start in range(skip * self.batch_size, len(order), self.batch_size):
            batch = order[start : start + self.batch_size][self.rank :: self.ranks]
            yield [(index, draw) for index in batch]


def gather_rows(rows: Sequence[Row], key: Callable[[Row], Hashable]) -> list[Row]:
    """Gather the rows of all ranks, drop repeats by ``key`` and sort by it.

    Args:
        rows: rows of this rank, picklable; ranks may have different numbers of rows.
        key: identity of a row; keys must be comparable with each other.

    Returns:
        The same list on every rank, with one row per key.
    """
    _, ranks = world()
    shares: list[Sequence[Row]] = [rows]
    if ranks > 1:
        gathered: list[Sequence[Row] | None] = [None] * ranks
        dist.all_gather_object(gathered, list(rows))
        shares = [share for share in gathered if share is not None]
    unique = {key(row): row for share in shares for row in share}
    return [unique[k] for k in sorted(unique)]  # type: ignore[type-var]


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(world()[1])]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        rank, ranks = world()
        total = grads[0].clone()
        dist.all_reduce(total)
        return total.chunk(ranks)[rank]


def all_gather(rows: Tensor) -> Tensor:
    """Rows of all ranks, one rank after another: ``[B, ...] -> [ranks * B, ...]``.

    Gradients flow back to the rank of each row, summed over ranks. If all ranks compute the same
    loss, the mean of their gradients, which DDP and FSDP take, therefore equals the gradient of one
    process.

    Args:
        rows: the same number of rows on every rank.
    """
    if world()[1] == 1:
        return rows
    gathered: Tensor = _AllGather.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


def share(count: Tensor) -> Tensor:
    """Factor that turns a sum over this rank's items into the mean over all ranks' items.

    Gradients are averaged over ranks afterwards, so the factor includes the number of ranks.

    Args:
        count: number of this rank's items, a scalar.
    """
    return world()[1] / all_gather(count[None]).sum().clamp_min(1).to(torch.float32)


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Norm of all gradients before clipping, sharded gradients over all shards."""
    from torch.distributed.tensor import DTensor  # takes as long as half of torch

    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    total: Tensor = norm.full_tensor() if isinstance(norm, DTensor) else norm
    return total
