"""Bytes of activations, keys and values, and logits."""

from __future__ import annotations

from lit_biqa.objectives.chunks import LOGITS_AT_ONCE
from lit_biqa.planning.sizes import Sizes
from lit_biqa.planning.stack import Stack
from lit_biqa.planning.work import Pass, Work


def saved(stack: Stack, work: Work, updated: bool = True) -> int:
    """Bytes that one position of one block keeps for the backward pass, without recomputation.

    Values that torch's autograd saves, counted as live tensors of a fit: inputs of norms, products
    and attention.

    Args:
        stack: of the block.
        work: precision and tuning.
        updated: true if LoRA's updates are in this stack.
    """
    width, queries, keys, inner = stack.width, stack.queries, stack.keys, stack.inner
    if work.autocast:
        return 20 * width + 4 * queries + 4 * keys + 8 * inner + 4 * 7 * work.rank * updated
    if work.rank:
        return 4 * (4 * width + 2 * queries + 2 * keys + 4 * inner + 7 * work.rank * updated)
    return 4 * (6 * width + 2 * queries + 2 * keys + 4 * inner)


def residual(work: Work) -> int:
    """Bytes of a value of hidden states between blocks: embeddings have the weights' precision."""
    return work.precision


def kept(stack: Stack, work: Work, positions: int, updated: bool = True) -> int:
    """Bytes of all blocks until the backward pass, without what one block needs to recompute."""
    if work.checkpointing:
        return positions * stack.depth * stack.width * residual(work)
    return positions * stack.depth * saved(stack, work, updated)


def recomputed(stack: Stack, work: Work, positions: int) -> int:
    """Bytes of the block that a backward pass or a pass without gradients is in."""
    return positions * saved(stack, work)


def of_tower(sizes: Sizes, work: Work) -> int:
    """Bytes that the tower keeps; none where it is frozen."""
    positions = work.images * sizes.patches
    return kept(sizes.tower, work, positions, updated=sizes.sees) if sizes.sees else 0


def pair(work: Work) -> int:
    """Bytes of a value of the keys and one of the values, as the decoder gives them.

    Rotation leaves keys in the precision of hidden states; values are a product.
    """
    return residual(work) + (2 if work.autocast else work.precision)


def cached(sizes: Sizes, work: Work, positions: int) -> int:
    """Bytes of keys and values of all layers."""
    return positions * sizes.decoder.depth * sizes.decoder.keys * pair(work)


def attended(sizes: Sizes, work: Work, one: Pass) -> int:
    """Bytes of keys and values that a portion of completions attends to, repeated for all heads.

    A completion attends to its prompt and itself; without recomputation each layer keeps its own.
    """
    rows = min(work.rows_at_once, one.chats * one.copies)
    values = rows * (one.length + work.budget) * sizes.decoder.queries
    if work.checkpointing:
        # both precisions are there while attention casts them
        return values * (pair(work) + 4 * work.autocast)
    return values * sizes.decoder.depth * (4 if work.autocast else 2 * work.precision)


def logits(sizes: Sizes, work: Work, tokens: int) -> int:
    """Bytes of the logits that a loss holds at a time: in float32, and as the head gives them."""
    held = min(tokens, max(1, LOGITS_AT_ONCE // sizes.vocabulary)) * sizes.vocabulary
    return held * (4 + (2 * 2 if work.autocast else 4))


def sampled(sizes: Sizes, rows: int) -> int:
    """Bytes of the logits of a step of sampling: from the head, in float32, divided."""
    return rows * sizes.vocabulary * 12
