"""Embedding of texts longer than a text tower's context."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

SENTENCE_END = re.compile(r"(?<=[.!?;])\s+")


def sentences(text: str) -> list[str]:
    """Sentences of a text, in order; a text without an end mark is one sentence."""
    return [part for part in SENTENCE_END.split(text.strip()) if part] or [""]


def embed_long(texts: list[str], embed: Callable[[list[str]], Tensor]) -> Tensor:
    """Embed each sentence, and average over the sentences of a text.

    Args:
        texts: B texts of any length.
        embed: function of S short texts to ``[S, D]``.

    Returns:
        ``[B, D]``.
    """
    parts = [sentences(text) for text in texts]
    embedded = embed([sentence for part in parts for sentence in part])
    owner = torch.tensor([row for row, part in enumerate(parts) for _ in part])
    sums = embedded.new_zeros(len(texts), embedded.shape[1])
    sums = sums.index_add(0, owner.to(embedded.device), embedded)
    return sums / torch.tensor([len(part) for part in parts]).to(sums)[:, None]
