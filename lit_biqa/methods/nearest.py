"""Training images nearest to each prototype of a head, for people to look at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from lit_biqa.data.embeddings import Embeddings
from lit_biqa.evaluation.report import write_csv
from lit_biqa.scoring.prototypes import PrototypeHead, nearest_points
from lit_biqa.types import Sample

COLUMNS = (
    "prototype",
    "score",
    "dataset",
    "split",
    "index",
    "name",
    "mos",
    "cosine",
    "path",
    "text",
)
NEAREST = 3
"""Images of each prototype."""


@torch.no_grad()
def write_nearest(
    path: Path, head: PrototypeHead, training: Embeddings, samples: Sequence[Sample]
) -> None:
    """Write the `NEAREST` training images of each prototype, by cosine, the nearest first.

    Args:
        path: file to write; one row for each prototype and image, `COLUMNS`.
        head: fitted head.
        training: embeddings that it was fitted to.
        samples: the training images, with files and texts; the first text is written.

    Raises:
        InputError: if the file cannot be written.
    """
    known = {(sample.dataset, sample.index): sample for sample in samples}
    points = head.compress(training.vectors.to(head.mean))
    cosines, places = nearest_points(head.prototypes, points, NEAREST)
    lines: list[Sequence[object]] = []
    for number, score in enumerate(head.scores.tolist()):
        for cosine, place in zip(cosines[number].tolist(), places[number].tolist(), strict=True):
            row = training.rows[place]
            sample = known[row.dataset, row.index]
            file = os.path.realpath(sample.path) if sample.path else ""
            who = (row.dataset, row.split, row.index, row.name, row.mos)
            text = sample.texts[0] if sample.texts else ""
            lines.append((number, score, *who, cosine, file, text))
    write_csv(path, COLUMNS, lines)
