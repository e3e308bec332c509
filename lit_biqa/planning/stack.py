"""Widths of repeated blocks, of a decoder or a tower."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stack:
    """Repeated blocks of attention and a feed-forward part.

    Attributes:
        depth: number of blocks.
        width: width of hidden states.
        queries: width of all queries of a position.
        keys: width of all keys of a position, which is that of all values.
        inner: width of the feed-forward part.
        linear: values of the matrices of a block, which a rollout may copy.
    """

    depth: int
    width: int
    queries: int
    keys: int
    inner: int
    linear: int = 0
