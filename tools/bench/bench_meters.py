"""Meters of time and memory, as contexts, and measuring by turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from bench_rows import mark
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@contextmanager
def one_thread() -> Iterator[None]:
    """On a busy machine threads wait for each other, which says nothing of their work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Clock:
    """Seconds that a context took: on a CPU those in which it ran, whatever else did.

    Args:
        now: reads the clock.
    """

    def __init__(self, now: Callable[[], float] = time.process_time) -> None:
        self.now = now

    def __enter__(self) -> None:
        self.start = self.now()

    def __exit__(self, *_: object) -> None:
        self.seconds = self.now() - self.start


class DeviceMeter:
    """Seconds that a context took, and the most memory of the device within it.

    That is what torch's allocator of a CUDA device gave out, weights included. On a CPU it is the
    most resident memory of this process so far, so that small runs have a figure too.

    Args:
        device: that does the work.

    Attributes:
        seconds: until the device had done all of it.
        peak: bytes.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __enter__(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.start = mark(self.device)

    def __exit__(self, *_: object) -> None:
        self.seconds = mark(self.device) - self.start
        on_cuda = self.device.type == "cuda"
        self.peak = torch.cuda.max_memory_allocated(self.device) if on_cuda else most_resident()


def most_resident() -> int:
    """Most bytes of resident memory that this process has had (Linux)."""
    return _status("VmHWM")


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work took."""
    with (clock := Clock()):
        work()
    return clock.seconds


class Allocated:
    """Most bytes that tensors took at a time within a context, by torch's allocator of the CPU.

    It is counted, not sampled, and the same in every run. Resident memory would do worse: it also
    holds what the C library keeps of freed blocks.
    """

    def __enter__(self) -> None:
        activities = [torch.profiler.ProfilerActivity.CPU]
        self.profiler = torch.profiler.profile(activities=activities, profile_memory=True)
        self.profiler.start()

    def __exit__(self, *_: object) -> None:
        self.profiler.stop()
        assert self.profiler.profiler is not None
        found: Any = self.profiler.profiler.kineto_results
        sizes = (event.nbytes() for event in found.events() if event.name() == "[memory]")
        self.peak: int = max(accumulate(sizes, initial=0))


class Exchanged(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of whole tensors that this rank gathers and reduces within a context.

    A gathered tensor counts with the parts of all ranks, a reduced one before it is scattered:
    what a collective carries over the network grows with these, whatever its algorithm.

    Attributes:
        gathered: bytes of ``all_gather``.
        reduced: bytes of ``reduce_scatter`` and ``all_reduce``.
        gathers: number of calls of ``all_gather``.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.gathered = self.reduced = self.gathers = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Called by torch for every operation."""
        if func.namespace == "c10d":
            sizes = [t.nbytes for t in tree_leaves(args) if isinstance(t, Tensor)]
            if "allgather" in func.__name__:
                self.gathers += 1
                self.gathered += max(sizes)
            elif "reduce" in func.__name__:
                self.reduced += max(sizes)
        return func(*args, **kwargs or {})


class Resident:
    """Most bytes by which the resident memory of this process grows within a context (Linux).

    Pages of files that are mapped count too while they are there.
    """

    def __enter__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        self.start = _status("VmRSS")

    def __exit__(self, *_: object) -> None:
        self.peak = _status("VmHWM") - self.start


def _status(name: str) -> int:
    """Bytes of a line of the process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def by_turns(work: Sequence[Callable[[], float]], turns: int) -> list[list[float]]:
    """Seconds of each, measured by turns."""
    took = [[each() for each in work] for _ in range(turns)]
    return [list(seconds) for seconds in zip(*took, strict=True)]


def over(slower: Sequence[float], faster: Sequence[float]) -> float:
    """The median ratio of two that ran by turns."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))
