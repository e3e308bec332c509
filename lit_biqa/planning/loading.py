"""Bytes of memory on the host while a fit reads its weights."""

from __future__ import annotations

from lit_biqa.planning.sizes import Sizes
from lit_biqa.planning.work import Work


def per_process(sizes: Sizes, work: Work) -> int:
    """Bytes of a process: all weights, whole, and the copy for the reference.

    Every process reads the weights whole on the CPU before they are sharded.
    """
    return sizes.held * (1 + work.reference)


def per_host(sizes: Sizes, work: Work) -> int:
    """Bytes of a machine on which all processes run."""
    return work.gpus * per_process(sizes, work)
