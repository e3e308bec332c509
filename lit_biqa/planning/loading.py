"""Bytes of memory on the host while a fit reads its weights."""

from __future__ import annotations

from lit_biqa.planning.sizes import Sizes
from lit_biqa.planning.work import Work


def per_process(sizes: Sizes, work: Work) -> int:
    """Bytes of a process: all weights and the copy for the reference, or its share.

    Weights of a checkpoint that are to be sharded stay in their files, of which each process reads
    the rows of its share (`lit_biqa.backbones.unread`), tensor by tensor. All of them at once is a
    bound: each goes on to the GPU. Random weights are drawn whole.
    """
    return work.share(sizes.held) if work.stored else sizes.held * (1 + work.reference)


def per_host(sizes: Sizes, work: Work) -> int:
    """Bytes of a machine on which all processes run."""
    return work.gpus * per_process(sizes, work)
