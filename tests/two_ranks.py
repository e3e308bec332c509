"""Two processes of a test, each a rank; a rank that waits for the other fails the test."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable
from typing import Any

LIMIT = 240.0  # seconds; a hang is noticed after them


def run_two_ranks(rank_of_two: Callable[..., None], *arguments: Any, limit: float = LIMIT) -> None:
    """Run ``rank_of_two(rank, port, *arguments)`` in two spawned processes, and wait for both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=rank_of_two, args=(rank, port, *arguments)) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(limit)
    hung = [process for process in both if process.is_alive()]
    for process in hung:
        process.kill()
    assert not hung, "a rank waits for the other"
    assert [process.exitcode for process in both] == [0, 0]
