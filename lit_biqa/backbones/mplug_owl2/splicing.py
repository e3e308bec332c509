"""Places of images in rows of token ids: each placeholder becomes its image's positions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lit_biqa.backbones.mplug_owl2.configuration import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from lit_biqa.types import InputError

# What fills up shorter rows: no token, so that it can be told from every one.
FILLER = -1

Images = Tensor | list[Tensor] | tuple[Tensor, ...]


class Rows(NamedTuple):
    """Rows of positions, ``[B, L]`` each.

    Attributes:
        input_ids: token ids; ``IMAGE_TOKEN_INDEX`` at every image position, ``FILLER`` at filling.
        attention_mask: true where there is something to attend to.
        labels: what each position should be, ``IGNORE_INDEX`` where nothing is asked.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor | None

    @property
    def image_positions(self) -> Tensor:
        """True at image positions."""
        return self.input_ids == IMAGE_TOKEN_INDEX


def flatten_images(images: Images) -> tuple[Tensor, Tensor]:
    """All images in order, and how many belong to each placeholder.

    Args:
        images: ``[n, 3, S, S]``, one image per placeholder; ``[n, k, 3, S, S]``, or a list of
            ``[k, 3, S, S]``: k images in a row at each placeholder.

    Returns:
        The images ``[N, 3, S, S]`` and the counts ``[n]``.

    Raises:
        InputError: for tensors of any other shape.
    """
    blocks = list(images)
    if blocks and all(block.ndim == 3 for block in blocks):
        blocks = [block[None] for block in blocks]
    if not blocks or any(block.ndim != 4 for block in blocks):
        raise InputError(
            "images must be a tensor [n, 3, S, S] or [n, k, 3, S, S], or a list of [k, 3, S, S], "
            "with one image or more; leave them out for a text-only batch"
        )
    counts = torch.tensor([len(block) for block in blocks], device=blocks[0].device)
    return torch.cat(blocks), counts


def check_placeholders(input_ids: Tensor, images: int) -> None:
    """Refuse a batch whose placeholders and images do not pair up.

    Raises:
        InputError: with both numbers.
    """
    placeholders = int((input_ids == IMAGE_TOKEN_INDEX).sum())
    if placeholders == images:
        return
    if not images:
        problem = f"{placeholders} image placeholders, but no images were given"
    elif not placeholders:
        problem = f"no image placeholder, but {images} images were given"
    else:
        problem = f"{placeholders} image placeholders, but {images} images were given"
    raise InputError(
        f"the batch has {problem}; give one image (or stack of images) for each "
        f"{IMAGE_TOKEN_INDEX} in input_ids, in the order of the rows"
    )


def expand_placeholders(
    input_ids: Tensor,
    attention_mask: Tensor | None,
    labels: Tensor | None,
    lengths: Tensor,
    pack_left: bool = False,
) -> Rows:
    """Widen each placeholder to as many positions as its image takes.

    Rows that come out shorter than the longest are filled on the right; the mask moves with its
    tokens, so a row padded on the left stays right. (The original puts ones in front of the mask
    instead, which lets padding be seen and hides as many tokens.)

    Args:
        input_ids: ``[B, L]`` with ``IMAGE_TOKEN_INDEX`` at each placeholder.
        attention_mask: ``[B, L]``, 1 or true at tokens; without it every position is one.
        labels: ``[B, L]``; image positions are never asked for.
        lengths: positions of each placeholder ``[n]``, over the flattened batch.
        pack_left: drop what the mask hides and fill on the left instead, so that every row ends
            with its last token, as generation needs it.
    """
    attention_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    repeats = torch.ones_like(input_ids)
    repeats[input_ids == IMAGE_TOKEN_INDEX] = lengths.to(repeats)
    if pack_left:
        repeats = repeats * attention_mask.bool()
    widths = repeats.sum(dim=1, keepdim=True)
    longest = int(widths.max())
    column = torch.arange(longest, device=input_ids.device)
    taken = column >= longest - widths if pack_left else column < widths

    def widen(values: Tensor, filling: int) -> Tensor:
        wide = values.new_full(taken.shape, filling)
        wide[taken] = values.flatten().repeat_interleave(repeats.flatten())
        return wide

    ids = widen(input_ids, FILLER)
    wide_labels = None if labels is None else widen(labels, IGNORE_INDEX)
    if wide_labels is not None:
        wide_labels = wide_labels.masked_fill(ids == IMAGE_TOKEN_INDEX, IGNORE_INDEX)
    return Rows(ids, widen(attention_mask, 0), wide_labels)


def positions_from_mask(attention_mask: Tensor, past: int) -> Tensor:
    """Positions of the columns from ``past`` on, counted from each row's first token: ``[B, L]``.

    Leading padding is not counted (and stays at 0), so that a row is at the same positions
    whatever its batch; padding on the right keeps counting, as in the original.
    """
    leading = (attention_mask.long().cumsum(dim=1) == 0).sum(dim=1, keepdim=True)
    columns = torch.arange(past, attention_mask.shape[1], device=attention_mask.device)
    return (columns - leading).clamp_min(0)
