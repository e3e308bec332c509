"""Bytes of weights, optimizer, gradients, the reference model and gathered weights."""

from __future__ import annotations

from lit_biqa.planning.sizes import Piece, Sizes
from lit_biqa.planning.work import Work


def weights(sizes: Sizes, work: Work) -> int:
    """Weights between steps."""
    return work.share(sizes.held)


def optimizer(sizes: Sizes, work: Work) -> int:
    """States of the optimizer, after its first step."""
    return work.moments * work.share(sizes.trained)


def reference(sizes: Sizes, work: Work) -> int:
    """Copy of the weights before training, between its passes."""
    return work.share(sizes.held) if work.reference else 0


def gathered_piece(piece: Piece, work: Work) -> int:
    """Whole weights of a piece; none where every GPU holds them anyway."""
    if not work.sharded:
        return 0
    return piece.held if work.gather is None else piece.values * work.gather


def gathered(sizes: Sizes, work: Work) -> int:
    """Gathered weights of a backward pass: the root, a block, and the next one."""
    block = 2 * gathered_piece(sizes.largest, work) + cast(sizes, work)
    return block + gathered_piece(sizes.root, work)


def gathered_forward(sizes: Sizes, work: Work) -> int:
    """Gathered weights of a forward pass: all, if blocks stay whole until the backward pass."""
    return gathered(sizes, work) if work.reshard else whole(sizes, work) + cast(sizes, work)


def whole(sizes: Sizes, work: Work) -> int:
    """Whole weights, which stay gathered for several passes, such as the portions of a loss."""
    return sum(gathered_piece(piece, work) for piece in (*sizes.blocks, sizes.root))


def cast(sizes: Sizes, work: Work) -> int:
    """Copies in bfloat16 that autocast makes of float32 weights: kept for the backward pass."""
    if not work.autocast or 2 in (work.precision, work.gather):
        return 0
    block = sizes.decoder.linear * 2
    return block if work.checkpointing else block * sizes.decoder.depth


def gathered_for_rollout(sizes: Sizes, work: Work) -> int:
    """Whole weights, and the copies of `FusedDecoder`."""
    return whole(sizes, work) + fused(sizes, work)


def fused(sizes: Sizes, work: Work) -> int:
    """Matrices that `FusedDecoder` copies: the stacked ones, or all with a cast or LoRA."""
    if not sizes.fused:
        return 0
    decoder = sizes.decoder
    value = 2 if work.autocast else work.precision
    if work.rank or value not in (work.precision, work.gather):
        return decoder.depth * decoder.linear * value
    alone = decoder.width * (decoder.queries + decoder.inner)  # output and down projection
    return decoder.depth * (decoder.linear - alone) * value


def gradients(sizes: Sizes, work: Work) -> int:
    """Gradients as the optimizer takes them."""
    return work.share(sizes.trained)


def in_backward(sizes: Sizes, work: Work) -> int:
    """Gradients at the end of a backward pass: the root's are whole until its end.

    Those of a block are whole twice, once flattened to be reduced; of all earlier blocks shards are
    left.
    """
    if not work.sharded:
        return sizes.trained
    return work.share(sizes.trained - sizes.root.trained) + sizes.root.trained + _block(sizes)


def in_portion(sizes: Sizes, work: Work) -> int:
    """Gradients at the end of a portion of completions, which runs no tower.

    The shards of earlier portions are there beside those of the root that are whole.
    """
    if not work.sharded:
        return sizes.language.trained
    return work.share(sizes.language.trained) + sizes.words.trained + _block(sizes)


def _block(sizes: Sizes) -> int:
    return 2 * max(block.trained for block in sizes.blocks)


def step(sizes: Sizes, work: Work) -> int:
    """Bytes that the optimizer adds within its step: square roots of second moments.

    A step of all weights at once takes them of all; one by one, of the largest and a quotient.
    """
    if work.foreach:
        return work.share(sizes.trained)
    return 2 * work.share(max(piece.largest for piece in (*sizes.blocks, sizes.root)))
