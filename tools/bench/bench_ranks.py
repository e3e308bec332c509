"""Two processes of one CPU that share the weights of a model (FSDP2, gloo)."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import torch

RANKS = 2
LIMIT = 900.0  # seconds; ranks that hang are ended after them


def run_ranks(rank_of_two: Callable[..., None], *given: Any) -> None:
    """Run a function on two processes; it leaves its figures in files.

    Args:
        rank_of_two: called with the rank and what is given, in the environment of a launcher.
        given: anything that can be pickled.

    Raises:
        RuntimeError: if a process fails or hangs.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    ranks = [
        spawn.Process(target=_launched, args=(rank_of_two, rank, port, given))
        for rank in range(RANKS)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(LIMIT)
        process.kill()
        process.join()
    if codes := [process.exitcode for process in ranks if process.exitcode]:
        raise RuntimeError(f"a process of the benchmark ended with {codes[0]}")


def _launched(
    rank_of_two: Callable[..., None], rank: int, port: int, given: tuple[Any, ...]
) -> None:
    """Set the environment as a launcher does, and run; end when the command is killed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= {
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(RANKS)},
        **{"LOCAL_RANK": str(rank), "NODE_RANK": "0"},
    }
    torch.set_num_threads(1)
    rank_of_two(rank, *given)
    torch.distributed.destroy_process_group()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
