"""Chats as rows of tokens, and batches of rows: the inputs of decoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

IGNORED = -100  # label of tokens without loss


@dataclass(frozen=True, eq=False)
class Row:
    """One chat as tokens.

    Attributes:
        ids: token ids ``[L]``, with one id per image position.
        image: ``[L]``, true at image positions.
        positions: ``[A, L]``, rotary positions along A axes.
        pixels: of its image; ``None`` where it has none.
    """

    ids: Tensor
    image: Tensor
    positions: Tensor
    pixels: Tensor | None


@dataclass(frozen=True, eq=False)
class Inputs:
    """A batch of chats as tokens; only backbones look inside it.

    Attributes:
        ids: ``[B, L]``.
        mask: ``[B, L]``, true at tokens.
        image: ``[B, L]``, true at image positions.
        positions: ``[A, B, L]``, rotary positions along A axes.
        labels: ``[B, L]``, the token id where it is part of an answer, else -100; ``None`` for
            chats without answers.
        pixels: image of each row, or ``None``.
    """

    ids: Tensor
    mask: Tensor
    image: Tensor
    positions: Tensor
    labels: Tensor | None
    pixels: tuple[Tensor | None, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Tensor:
        """Number of tokens of each row, ``[B]``."""
        return self.mask.sum(1)

    @property
    def next_positions(self) -> Tensor:
        """Position of the token after each row, ``[B]``."""
        return self.positions.masked_fill(~self.mask, -1).amax((0, 2)) + 1

    def rows(self, chosen: slice) -> Inputs:
        """Some of the rows, without changing their width."""
        return Inputs(
            self.ids[chosen],
            self.mask[chosen],
            self.image[chosen],
            self.positions[:, chosen],
            None if self.labels is None else self.labels[chosen],
            self.pixels[chosen],
        )

    def to(self, device: torch.device) -> Inputs:
        """The same inputs on another device."""
        return replace(
            self,
            ids=self.ids.to(device),
            mask=self.mask.to(device),
            image=self.image.to(device),
            positions=self.positions.to(device),
            labels=None if self.labels is None else self.labels.to(device),
            pixels=tuple(None if p is None else p.to(device) for p in self.pixels),
        )


def extended(row: Row, ids: Sequence[int]) -> Row:
    """Row with text tokens appended."""
    start = int(row.positions.max()) + 1 if len(row.ids) else 0
    after = torch.arange(start, start + len(ids)).expand(len(row.positions), -1)
    return Row(
        torch.cat([row.ids, torch.tensor(ids, dtype=torch.int64)]),
        torch.cat([row.image, torch.zeros(len(ids), dtype=torch.bool)]),
        torch.cat([row.positions, after], 1),
        row.pixels,
    )


def prompts_of(rows: Sequence[Row]) -> Inputs:
    """Prompts as a batch, padded on the left, so that each ends where its completion goes on.

    Args:
        rows: at least one.
    """
    labels = [[IGNORED] * len(row.ids) for row in rows]
    return replace(padded(rows, labels, left=True), labels=None)


def padded(
    rows: Sequence[Row],
    labels: Sequence[Sequence[int]],
    left: bool,
) -> Inputs:
    """Batch of rows, as wide as the longest row.

    Args:
        rows: at least one.
        labels: for each row, as long as it is.
        left: pad on the left, else on the right.
    """
    shape = (len(rows), max(len(row.ids) for row in rows))
    ids, mask = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.bool)
    image, learned = torch.zeros_like(mask), torch.full(shape, IGNORED)
    positions = torch.zeros(len(rows[0].positions), *shape, dtype=torch.int64)
    for index, (row, label) in enumerate(zip(rows, labels, strict=True)):
        length = len(row.ids)
        at = slice(shape[1] - length, None) if left else slice(length)
        ids[index, at], mask[index, at], image[index, at] = row.ids, True, row.image
        learned[index, at] = torch.tensor(label)
        positions[:, index, at] = row.positions
        if not left:  # at a jump in positions transformers would see a second, packed row
            behind = int(row.positions.max()) + 1
            positions[:, index, length:] = torch.arange(behind, behind + shape[1] - length)
    return Inputs(ids, mask, image, positions, learned, tuple(row.pixels for row in rows))
