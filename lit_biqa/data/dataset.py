"""Batches from samples: images read and transformed, with stand-ins for broken ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from PIL import Image
from torch import Generator, Tensor
from torch.utils.data import Dataset

from lit_biqa import limits
from lit_biqa.data.images import UnreadableImage, open_image
from lit_biqa.types import Batch, InputError, Message, Sample, Samples

log = logging.getLogger(__name__)

TrainTransform = Callable[[Image.Image, Generator], Tensor]
EvaluateTransform = Callable[[Image.Image], Tensor]
OnBadImage = Literal["error", "replace", "mark"]
Key = tuple[int, int]


@dataclass(frozen=True)
class Item:
    """One row of a batch.

    Attributes:
        sample: the sample.
        pixels: pixels of the image; ``None`` if it has none.
        which: index of the text among the sample's texts.
        status: ``ok``, or the reason for the missing image.
    """

    sample: Sample
    pixels: Tensor | None
    which: int = 0
    status: str = "ok"


class Reader(Protocol):
    """Turns a sample into pixels; raises ``UnreadableImage`` if it cannot."""

    def __call__(self, sample: Sample, generator: Generator) -> Tensor | None:
        """Pixels of one sample; ``None`` if it has no image.

        All randomness comes from the generator.
        """

    def stand_in(self) -> Tensor | None:
        """Pixels of the usual shape, for an image that cannot be read."""


class BlindReader:
    """Reader that opens no image."""

    def __call__(self, sample: Sample, generator: Generator) -> None:
        """See `Reader`."""

    def stand_in(self) -> None:
        """See `Reader`."""


@dataclass(frozen=True)
class EvaluateReader:
    """Reader for evaluation: opens an image file and applies a deterministic transform.

    Attributes:
        transform: from the image to pixels.
        max_pixels: largest width times height of an image.
        least_side: smallest shorter side, in pixels.
    """

    transform: EvaluateTransform
    max_pixels: int = limits.IMAGE_PIXELS
    least_side: int = 1

    def __call__(self, sample: Sample, generator: Generator) -> Tensor | None:
        """See `Reader`."""
        return read_pixels(sample.path, self.transform, self.max_pixels, self.least_side)

    def stand_in(self) -> Tensor:
        """See `Reader`."""
        return self.transform(_grey())


@dataclass(frozen=True)
class TrainReader:
    """Reader for training: opens an image file and augments it with the given generator."""

    transform: TrainTransform
    max_pixels: int = limits.IMAGE_PIXELS

    def __call__(self, sample: Sample, generator: Generator) -> Tensor | None:
        """See `Reader`."""
        return read_pixels(
            sample.path, lambda image: self.transform(image, generator), self.max_pixels
        )

    def stand_in(self) -> Tensor:
        """See `Reader`."""
        return self.transform(_grey(), Generator().manual_seed(0))


def read_pixels(
    path: Path | None, transform: EvaluateTransform, max_pixels: int, least_side: int = 1
) -> Tensor | None:
    """Pixels of an image file; ``None`` without a path.

    Raises:
        UnreadableImage: if it cannot be opened, or if the transform refuses its shape, for instance
            because it is too narrow.
    """
    if path is None:
        return None
    image = open_image(path, max_pixels, least_side)
    try:
        return transform(image)
    except ValueError as error:
        raise UnreadableImage(f"{path}: {error}") from error


class QualityDataset(Dataset[list[Item]]):
    """Rows for the keys ``(row, draw)`` of a `GlobalBatchSampler`, a batch at a time.

    The randomness of a row depends only on ``(seed, draw, row)``: it is the same in every worker
    and rank, and in a resumed run.

    Args:
        samples: the samples.
        read: reader that turns a sample into pixels.
        pairs: one row per text of each sample, instead of one per sample with its first text.
            Samples without text are left out, unless none has any.
        on_bad_image: handling of an unreadable image. ``error`` raises and names it; ``replace``
            takes the next readable row instead, warns once per file and counts them; ``mark``
            gives stand-in pixels, and the reason as status.
        seed: seed of the randomness.

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
            raise InputError("no images to load: the named data sets hold none in this part")
        self.samples = list(samples)
        self.read, self.on_bad_image, self.seed = read, on_bad_image, seed
        self.rows = _pairs(self.samples) if pairs else [(i, 0) for i in range(len(self.samples))]
        # Shared memory, so that all workers count into the same table.
        self._bad = torch.zeros(len(self.samples), dtype=torch.bool)
        self._bad.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, keys: Sequence[Key]) -> list[Item]:
        return [self._row(row, draw) for row, draw in keys]

    @property
    def lengths(self) -> list[int]:
        """Length of each row in characters: prompt, text and conclusion."""
        return [_length(self.samples[place], which) for place, which in self.rows]

    @property
    def bad_images(self) -> list[Sample]:
        """Samples found unreadable so far, by any worker."""
        return [self.samples[i] for i in self._bad.nonzero().flatten().tolist()]

    def _row(self, row: int, draw: int) -> Item:
        while True:
            place, which = self.rows[row]
            sample = self.samples[place]
            try:
                return Item(sample, self.read(sample, self._generator(row, draw)), which)
            except UnreadableImage as error:
                if self.on_bad_image == "mark":
                    stand_in = self.read.stand_in()
                    return Item(sample, stand_in, which, status=f"unreadable: {error}")
                if self.on_bad_image == "error":
                    raise InputError(
                        f"image of {sample.dataset} cannot be read: {error}. Repair the file, or "
                        "set data.images.on_bad=skip to continue without it."
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
        """Next row whose image has not been found unreadable."""
        for step in range(1, len(self.rows)):
            candidate = (row + step) % len(self.rows)
            if not self._bad[self.rows[candidate][0]]:
                return candidate
        raise InputError(f"none of the {len(self.samples)} images can be read; see the warnings")


def collate(items: Sequence[Item]) -> Batch:
    """Turn rows into columns; pixels are stacked if all have one shape, else a list."""
    samples = [item.sample for item in items]
    chosen = [_texts_of(item.sample, item.which) for item in items]
    return Batch(
        pixels=_stacked([item.pixels for item in items]),
        samples=Samples(samples),
        mos=torch.tensor([s.mos for s in samples], dtype=torch.float32),
        std=torch.tensor([s.std for s in samples], dtype=torch.float32),
        index=torch.tensor([s.index for s in samples], dtype=torch.int64),
        dataset=[s.dataset for s in samples],
        split=[s.split for s in samples],
        name=[s.name for s in samples],
        text=[text for _, text, _ in chosen],
        prompt=[prompt for prompt, _, _ in chosen],
        conclusion=[conclusion for _, _, conclusion in chosen],
        status=[item.status for item in items],
    )


def _stacked(pixels: list[Tensor | None]) -> Tensor | list[Tensor | None]:
    present = [image for image in pixels if image is not None]
    same = len(present) == len(pixels) and len({image.shape for image in present}) == 1
    return torch.stack(present) if same else pixels


def _texts_of(sample: Sample, which: int) -> tuple[tuple[Message, ...], str, str]:
    """Prompt, text and conclusion of one of a sample's texts; each empty if there is none."""
    here = slice(which, which + 1)
    prompts, texts, ends = sample.prompts[here], sample.texts[here], sample.conclusions[here]
    return (prompts or ((),))[0], (texts or ("",))[0], (ends or ("",))[0]


def _length(sample: Sample, which: int) -> int:
    prompt, text, conclusion = _texts_of(sample, which)
    return sum(len(message.text) for message in prompt) + len(text) + len(conclusion)


def _pairs(samples: Sequence[Sample]) -> list[tuple[int, int]]:
    pairs = [(i, which) for i, s in enumerate(samples) for which in range(len(s.texts))]
    return pairs or [(i, 0) for i in range(len(samples))]


def _grey() -> Image.Image:
    return Image.new("RGB", (224, 224), (128, 128, 128))
