"""Pictures of clients, scored together; one that cannot be scored has a reason."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lit_biqa import limits
from lit_biqa.app.examples import Example
from lit_biqa.backbones.by_shape import by_shape
from lit_biqa.data.images import UnreadableImage, open_image
from lit_biqa.io.data_urls import webp_url
from lit_biqa.scoring.scorer import Scorer
from lit_biqa.text.levels import level_of

_OPENERS = 2  # pictures decoded at once, each of which may take 400 MB
_THUMBNAIL = 160  # pixels of the longer side
_QUALITY = 75  # of a thumbnail, as WebP counts it


@dataclass(frozen=True)
class Picture:
    """A picture to score.

    Attributes:
        name: name that its client gave it.
        source: file that holds it, or the picture itself.
        nearest: number of prototypes to name.
        thumbnail: true if a small copy is wanted.
        reason: reason why it is not opened; empty if it is.
        stop: set once nobody waits for the score any more; it is then not opened.
    """

    name: str
    source: Path | Image.Image
    nearest: int = 0
    thumbnail: bool = False
    reason: str = ""
    stop: threading.Event = field(default_factory=threading.Event, compare=False)


@dataclass(frozen=True)
class Near:
    """A prototype near a picture.

    Attributes:
        prototype: number of the prototype in the scorer, from 0.
        weight: its share in the score, on [0, 1].
        score: score of the prototype.
        example: training image nearest to it; ``None`` where the scorer's run holds none.
    """

    prototype: int
    weight: float
    score: float
    example: Example | None = None


@dataclass(frozen=True)
class Scored:
    """The score of a picture.

    Attributes:
        name: name of the picture.
        score: predicted MOS on [1, 5]; ``nan`` if there is none.
        status: ``ok``, or the reason for the missing score.
        nearest: prototypes with the largest share in the score, largest first.
        thumbnail: data URL of a small copy; empty if none was wanted.
    """

    name: str
    score: float = math.nan
    status: str = "ok"
    nearest: tuple[Near, ...] = field(default=())
    thumbnail: str = ""

    @property
    def level(self) -> str:
        """Level that the score falls into; empty without a score."""
        return level_of(self.score) if math.isfinite(self.score) else ""


class PictureScorer:
    """Scores batches of pictures.

    Args:
        scorer: the scorer.
        max_pixels: most pixels of a picture, width times height.
        examples: training image nearest to each prototype; empty if unknown.
    """

    def __init__(
        self,
        scorer: Scorer,
        max_pixels: int = limits.UPLOAD_PIXELS,
        examples: Sequence[Example] = (),
    ) -> None:
        self.scorer, self.max_pixels, self.examples = scorer, max_pixels, examples
        self._openers = ThreadPoolExecutor(_OPENERS, thread_name_prefix="openers")

    def __call__(self, pictures: Sequence[Picture]) -> list[Scored]:
        """Score a batch; results in the order of the pictures."""
        opened = list(self._openers.map(self._open, pictures))
        pixels = [item[0] for item in opened if not isinstance(item, str)]
        answers = iter(self._scores(pixels, max(picture.nearest for picture in pictures)))
        scored = []
        for picture, item in zip(pictures, opened, strict=True):
            if isinstance(item, str):
                scored.append(Scored(picture.name, status=item))
                continue
            score, nearest = next(answers)
            scored.append(Scored(picture.name, score, "ok", nearest[: picture.nearest], item[1]))
        return scored

    def _open(self, picture: Picture) -> tuple[Tensor, str] | str:
        """Pixels and thumbnail of a picture, or the reason why there are none."""
        if picture.stop.is_set():
            return "no longer waited for"
        try:
            image = open_picture(picture, self.max_pixels)
        except UnreadableImage as error:
            return str(error).removeprefix(f"{picture.name}: ")
        pixels = self.scorer.transform(image)
        return pixels, _thumbnail(image) if picture.thumbnail else ""

    @torch.inference_mode()
    def _scores(
        self, pixels: Sequence[Tensor], nearest: int
    ) -> list[tuple[float, tuple[Near, ...]]]:
        if not pixels:
            return []
        head = self.scorer.head
        embeddings = by_shape(self.scorer.tower, [image.to(head.scores.device) for image in pixels])
        scores = head(embeddings).float().tolist()
        shares, places = head.weights(embeddings).topk(min(nearest, len(head.scores)))
        return [
            (score, tuple(self._near(*pair) for pair in zip(where, weights, strict=True)))
            for score, where, weights in zip(scores, places.tolist(), shares.tolist(), strict=True)
        ]

    def _near(self, place: int, weight: float) -> Near:
        example = self.examples[place] if self.examples else None
        return Near(place, weight, float(self.scorer.head.scores[place]), example)


def _thumbnail(image: Image.Image) -> str:
    """Data URL of a small copy."""
    small = image.copy()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return webp_url(small, _QUALITY)


def open_picture(picture: Picture, max_pixels: int) -> Image.Image:
    """Open a picture as 8-bit RGB.

    Raises:
        UnreadableImage: if it cannot be decoded, is too large or too small, or has a reason not to
            be opened.
    """
    if picture.reason:
        raise UnreadableImage(f"{picture.name}: {picture.reason}")
    return open_image(picture.source, max_pixels, limits.RATED_SIDE, picture.name)
