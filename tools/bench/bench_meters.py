"""Meters of time and memory, as contexts, and measuring by turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch


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


def by_turns(work: Sequence[Callable[[], float]], turns: int) -> list[list[float]]:
    """Seconds of each, measured by turns."""
    took = [[each() for each in work] for _ in range(turns)]
    return [list(seconds) for seconds in zip(*took, strict=True)]


def over(slower: Sequence[float], faster: Sequence[float]) -> float:
    """The median ratio of two that ran by turns."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))
