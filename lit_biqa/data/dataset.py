"""Samples turned into batches: images read, transformed, and stood in for where they are broken."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from PIL import Image
from torch import Generator, Tensor
from torch.utils.data import Dataset

from lit_biqa.data.images import UnreadableImage, open_image
from lit_biqa.types import Batch, InputError, Sample

log = logging.getLogger(__name__)

TrainTransform = Callable[[Image.Image, Generator], Tensor]
EvaluateTransform = Callable[[Image.Image], Tensor]
OnBadImage = Literal["error", "replace", "mark"]
Key = tuple[int, int]


@dataclass(frozen=True)
class Item:
    """One row of a batch: a sample, its pixels, one text, and ``ok`` or why there is no image."""

    sample: Sample
    pixels: Tensor
    text: str
    status: str = "ok"


class Reader(Protocol):
    """Makes the pixels of a sample; raises ``UnreadableImage`` where it cannot."""

    def __call__(self, sample: Sample, generator: Generator) -> Tensor:
        """Pixels of one sample; what is random in them comes from the generator alone."""

    def stand_in(self) -> Tensor:
        """Pixels of the usual shape, for an image that cannot be read."""


@dataclass(frozen=True)
class EvaluateReader:
    """Reads an image file and applies a transform that has nothing random."""

    transform: EvaluateTransform

    def __call__(self, sample: Sample, generator: Generator) -> Tensor:
        """See `Reader`."""
        return self.transform(open_image(sample.path))

    def stand_in(self) -> Tensor:
        """See `Reader`."""
        return self.transform(_grey())


@dataclass(frozen=True)
class TrainReader:
    """Reads an image file and augments it with the generator given."""

    transform: TrainTransform

    def __call__(self, sample: Sample, generator: Generator) -> Tensor:
        """See `Reader`."""
        return self.transform(open_image(sample.path), generator)

    def stand_in(self) -> Tensor:
        """See `Reader`."""
        return self.transform(_grey(), Generator().manual_seed(0))


class QualityDataset(Dataset[list[Item]]):
    """Rows for the keys ``(row, draw)`` of a `GlobalBatchSampler`, a batch at a time.

    What is random in a row follows from ``(seed, draw, row)`` alone: it is the same whichever
    worker or rank reads it, and in a run that was interrupted and goes on.

    Args:
        samples: the images.
        read: how a sample becomes pixels.
        pairs: one row for each text of each sample, instead of one for each sample. Samples
            without text are left out, unless none has any.
        on_bad_image: what becomes of an image that cannot be read. ``error`` raises, naming it;
            ``replace`` takes the next readable row instead, warns once for each file and counts
            them; ``mark`` gives stand-in pixels and the reason as status.
        seed: of what is random.

    Raises:
        InputError: if there is no sample.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        read: Reader,
        pairs: bool = False,
        on_bad_image: OnBadImage = "error",
        seed: int = 0,
    ) -> None:
        if not samples:
            raise InputError("no images to load: the data sets named hold none in this part")
        self.samples = list(samples)
        self.read, self.on_bad_image, self.seed = read, on_bad_image, seed
        self.rows = _pairs(self.samples) if pairs else [(i, "") for i in range(len(self.samples))]
        # Shared memory, so that all workers count into the same table.
        self._bad = torch.zeros(len(self.samples), dtype=torch.bool)
        self._bad.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, keys: Sequence[Key]) -> list[Item]:
        return [self._row(row, draw) for row, draw in keys]

    @property
    def bad_images(self) -> list[Sample]:
        """Samples that were found unreadable so far, by any worker."""
        return [self.samples[i] for i in self._bad.nonzero().flatten().tolist()]

    def _row(self, row: int, draw: int) -> Item:
        while True:
            place, text = self.rows[row]
            sample = self.samples[place]
            try:
                return Item(sample, self.read(sample, self._generator(row, draw)), text)
            except UnreadableImage as error:
                if self.on_bad_image == "mark":
                    return Item(sample, self.read.stand_in(), text, status=f"unreadable: {error}")
                if self.on_bad_image == "error":
                    raise InputError(
                        f"image of {sample.dataset} cannot be read: {error}. Put the file right, "
                        "or set data.on_bad_image=skip to go on without it."
                    ) from error
                self._note(place, error)
            row = self._next_row(row)

    def _generator(self, row: int, draw: int) -> Generator:
        seed = (self.seed * 1_000_003 + draw) * 1_000_003 + row
        return Generator().manual_seed(seed % 2**63)

    def _note(self, place: int, error: UnreadableImage) -> None:
        if not self._bad[place]:
            self._bad[place] = True
            count, sample = int(self._bad.sum()), self.samples[place]
            log.warning("skipped image of %s: %s (%d so far)", sample.dataset, error, count)

    def _next_row(self, row: int) -> int:
        """The next row whose image is not known to be unreadable."""
        for step in range(1, len(self.rows)):
            candidate = (row + step) % len(self.rows)
            if not self._bad[self.rows[candidate][0]]:
                return candidate
        raise InputError(f"none of the {len(self.samples)} images can be read; see the warnings")


def collate(items: Sequence[Item]) -> Batch:
    """Bring rows into columns; pixels are stacked where all have one shape, else a list."""
    pixels = [item.pixels for item in items]
    same = len({p.shape for p in pixels}) == 1
    samples = [item.sample for item in items]
    return Batch(
        pixels=torch.stack(pixels) if same else pixels,
        mos=torch.tensor([s.mos for s in samples], dtype=torch.float32),
        std=torch.tensor([s.std for s in samples], dtype=torch.float32),
        index=torch.tensor([s.index for s in samples], dtype=torch.int64),
        dataset=[s.dataset for s in samples],
        split=[s.split for s in samples],
        name=[s.name for s in samples],
        text=[item.text for item in items],
        status=[item.status for item in items],
    )


def _pairs(samples: Sequence[Sample]) -> list[tuple[int, str]]:
    pairs = [(i, text) for i, sample in enumerate(samples) for text in sample.texts]
    return pairs or [(i, "") for i in range(len(samples))]


def _grey() -> Image.Image:
    return Image.new("RGB", (224, 224), (128, 128, 128))
