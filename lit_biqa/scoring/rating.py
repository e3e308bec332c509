"""Scores of single files, whole or by crops; a file that cannot be scored has a reason."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lit_biqa.data.images import UnreadableImage
from lit_biqa.scoring.inputs import open_picture
from lit_biqa.scoring.photos import Photo
from lit_biqa.scoring.scorer import Scorer

_BATCH = 16  # most pictures or crops in a batch of the tower


@dataclass(frozen=True)
class Rating:
    """The score of one file.

    Attributes:
        path: path of the file.
        score: predicted MOS on [1, 5], or the mean over crops; ``nan`` if there is none.
        spread: standard deviation of the crops' scores; ``nan`` without crops.
        crops: number of crops that were scored; 0 for the whole picture.
        status: ``ok``, or the reason for the missing score.
    """

    path: Path
    score: float = math.nan
    spread: float = math.nan
    crops: int = 0
    status: str = "ok"

    @property
    def scored(self) -> bool:
        """True if there is a score."""
        return self.status == "ok"


def rate(scorer: Scorer, photos: Sequence[Photo], crops: int = 0) -> Iterator[Rating]:
    """Ratings of files, in their order.

    Args:
        scorer: the scorer.
        photos: the files.
        crops: N of a grid of N x N crops at full resolution, at least 2, each as large as the
            scorer's input; a picture with a smaller side is scored whole. 0 scores whole pictures.
    """
    together = max(1, _BATCH // max(1, crops) ** 2)
    for start in range(0, len(photos), together):
        yield from _rate_together(scorer, photos[start : start + together], crops)


def _rate_together(scorer: Scorer, photos: Sequence[Photo], crops: int) -> Iterator[Rating]:
    read = [_read(scorer, photo, crops) for photo in photos]
    read_views = [item for item in read if isinstance(item, Tensor)]
    scores = _scores(scorer, [view for views in read_views for view in views])
    for photo, item in zip(photos, read, strict=True):
        if isinstance(item, str):
            yield Rating(photo.path, status=item)
            continue
        values, scores = scores[: len(item)].double(), scores[len(item) :]
        count = len(values) if len(values) > 1 else 0
        spread = values.std(correction=0).item() if count else math.nan
        yield Rating(photo.path, values.mean().item(), spread, count)


def _read(scorer: Scorer, photo: Photo, crops: int) -> Tensor | str:
    """Pixels of a file, ``[N * N, 3, H, W]`` of crops or ``[1, 3, H, W]``, or a reason."""
    if photo.reason:
        return photo.reason
    try:
        image = open_picture(photo.path)
    except UnreadableImage as error:
        return str(error).removeprefix(f"{photo.path}: ")
    frame = scorer.transform.frame
    if not crops or min(image.size) < frame.size:
        return scorer.transform(image)[None]
    return torch.stack([frame.tensor(crop) for crop in grid(image, frame.size, crops)])


@torch.inference_mode()
def _scores(scorer: Scorer, views: Sequence[Tensor]) -> Tensor:
    device, scores = scorer.head.scores.device, [torch.zeros(0)]
    for start in range(0, len(views), _BATCH):
        pixels = [view.to(device) for view in views[start : start + _BATCH]]
        scores.append(scorer.score_pixels(pixels).float().cpu())
    return torch.cat(scores)


def grid(image: Image.Image, size: int, n: int) -> list[Image.Image]:
    """N x N square crops, evenly spread from edge to edge, row by row.

    Example:
        A picture of 1000 x 600 with ``size=200, n=3`` has crops that begin at x = 0, 400 and 800
        and at y = 0, 200 and 400.

    Args:
        image: at least ``size`` pixels on either side.
        size: side of a crop in pixels; nothing is scaled.
        n: number of crops per row and per column, at least 2; they overlap if they do not fit side
            by side.
    """
    columns, rows = (
        [round((side - size) * step / (n - 1)) for step in range(n)] for side in image.size
    )
    return [image.crop((x, y, x + size, y + size)) for y in rows for x in columns]
