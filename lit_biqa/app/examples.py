"""Training images nearest to a scorer's prototypes, with their texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from lit_biqa.data.embeddings import Embeddings
from lit_biqa.scoring.prototypes import PrototypeHead, nearest_points
from lit_biqa.types import InputError

Texts = Mapping[tuple[str, int], Sequence[str]]


@dataclass(frozen=True)
class Example:
    """A training image.

    Attributes:
        dataset: catalogue name of its data set.
        name: its file name.
        mos: its mean opinion score on [1, 5].
        texts: texts about it that the encoder was aligned with.
    """

    dataset: str
    name: str
    mos: float
    texts: tuple[str, ...] = ()


@torch.inference_mode()
def nearest_examples(head: PrototypeHead, embeddings: Embeddings, texts: Texts) -> list[Example]:
    """Training image nearest to each prototype, by the cosine that the head uses.

    Args:
        head: head with K prototypes.
        embeddings: embeddings of the run that trained it.
        texts: texts of training images by data set and row; images without are absent.

    Returns:
        K images; one may be the nearest to several prototypes. None if no training image is
        embedded.

    Raises:
        InputError: if the embeddings have other dimensions than the head takes.
    """
    rows = embeddings.of_role("train")
    if not rows:
        return []
    if embeddings.vectors.shape[1] != len(head.mean):
        raise InputError(
            f"embeddings of {embeddings.vectors.shape[1]} dimensions are not those of a head "
            f"that takes {len(head.mean)}"
        )
    points = head.compress(embeddings.vectors[rows].to(head.mean))
    _, places = nearest_points(head.prototypes, points, 1)
    found = [embeddings.rows[rows[place]] for place in places[:, 0].tolist()]
    return [
        Example(row.dataset, row.name, row.mos, tuple(texts.get((row.dataset, row.index), ())))
        for row in found
    ]
