"""Features of a frozen network: computed once for each image, kept on disk, read as pixels are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Generator, Tensor

from lit_biqa.data.dataset import EvaluateReader, read_pixels
from lit_biqa.data.images import UnreadableImage
from lit_biqa.distributed import alive, barrier, world
from lit_biqa.io.digests import digest_of_file
from lit_biqa.io.feature_files import FeatureFiles
from lit_biqa.progress import track
from lit_biqa.runs import stops
from lit_biqa.types import Sample

log = logging.getLogger(__name__)

_TOGETHER = 8  # images in a batch of the network


class FrozenNetwork(Protocol):
    """Network whose weights do not change, so that its features of an image do not either.

    Attributes:
        transform: from an image to the pixels that the network takes.
        digest: of all that the features depend on beside the image: weights, architecture,
            precision and the frame of the pixels.
    """

    @property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """See the class."""

    @property
    def digest(self) -> str:
        """See the class."""

    def features(self, pixels: Sequence[Tensor]) -> Tensor:
        """B images ``[3, H, W]``, which may differ in size, to ``[B, ...]``."""

    @property
    def observe(self) -> Callable[[Tensor], None]:
        """Function of the features of all training images, ``[N, ...]``; called before a fit."""


@dataclass(frozen=True)
class FeatureCache:
    """Features on disk, one file for each image, found by the digest of the image file.

    Attributes:
        digest: of the network; a file that another network's features lie in is refused.
    """

    digest: str

    @property
    def files(self) -> FeatureFiles:
        """Files of this network."""
        return FeatureFiles(self.digest)

    def path(self, image: Path) -> Path:
        """File of an image's features, whether it exists or not.

        Raises:
            OSError: if the image cannot be read.
        """
        return self.files.folder / f"{digest_of_file(image)[:32]}.safetensors"

    def read(self, path: Path) -> Tensor | None:
        """Features of an image, or ``None`` if they were not computed yet.

        Raises:
            InputError: if the file is damaged or holds the features of another network.
        """
        return self.files.read(path)["features"] if path.is_file() else None

    def write(self, path: Path, features: Tensor) -> None:
        """Write the features of an image, in float16.

        Raises:
            InputError: if the folder cannot be written.
        """
        self.files.write(path, {"features": features.to(torch.float16)})


class FeatureReader:
    """Reader that returns the features of an image, and the pixels of one that has none.

    Attributes:
        read: reader of the pixels.
        features: of all images, ``[N, ...]`` in float16, in memory that workers share.
    """

    def __init__(self, read: EvaluateReader, features: dict[Path, Tensor]) -> None:
        self.read = read
        self._place = {path: place for place, path in enumerate(features)}
        self.features = torch.stack(list(features.values()))
        self.features.share_memory_()  # type: ignore[no-untyped-call]

    def __call__(self, sample: Sample, generator: Generator) -> Tensor | None:
        """Features in float32, or pixels ``[3, H, W]``."""
        place = self._place.get(sample.path) if sample.path else None
        return self.read(sample, generator) if place is None else self.features[place].float()

    def stand_in(self) -> Tensor:
        """Zeros."""
        return torch.zeros_like(self.features[0], dtype=torch.float32)


def cached_features(
    network: FrozenNetwork, samples: Sequence[Sample], max_pixels: int, device: torch.device
) -> dict[Path, Tensor]:
    """Features of all readable images of samples, in float16; computed where the cache lacks them.

    Of several processes each computes a share, and then reads those of the others; where they
    share no disk, it computes the rest too.

    Args:
        network: on the CPU or on ``device``.
        samples: those without an image are passed over.
        max_pixels: largest width times height of an image.
        device: device that the network runs on.
    """
    cache, read = FeatureCache(network.digest), EvaluateReader(network.transform, max_pixels)
    paths = _files_of(cache, samples)
    found = {image: cache.read(path) for image, path in paths.items()}
    absent = [image for image, features in found.items() if features is None]
    rank, ranks = world()
    _compute(network, cache, read, [(image, paths[image]) for image in absent[rank::ranks]], device)
    barrier()
    left = [image for image in absent if not paths[image].is_file()]
    _compute(network, cache, read, [(image, paths[image]) for image in left], device)
    found |= {image: cache.read(paths[image]) for image in absent}
    return {image: features for image, features in found.items() if features is not None}


def _files_of(cache: FeatureCache, samples: Sequence[Sample]) -> dict[Path, Path]:
    files = {}
    for image in dict.fromkeys(sample.path for sample in samples if sample.path):
        try:
            files[image] = cache.path(image)
        except OSError as error:  # the loader says what to do about it
            log.warning("%s: no features: %s", image, error.strerror or error)
    return files


@torch.inference_mode()
def _compute(
    network: FrozenNetwork,
    cache: FeatureCache,
    read: EvaluateReader,
    files: Sequence[tuple[Path, Path]],
    device: torch.device,
) -> None:
    batches = list(_batches(files)) if files else []
    shown = track(batches, "Computing features", unit="images", units=len, steps="batches")
    for batch in shown if batches else []:
        alive()
        if world()[1] == 1:  # ranks may have different numbers of batches
            stops.check(device)
        read_ones = [(path, _pixels(read, image)) for image, path in batch]
        pairs = [(path, pixels.to(device)) for path, pixels in read_ones if pixels is not None]
        if pairs:
            features = network.features([pixels for _, pixels in pairs])
            for (path, _), row in zip(pairs, features, strict=True):
                cache.write(path, row)


def _batches(files: Sequence[tuple[Path, Path]]) -> Iterator[Sequence[tuple[Path, Path]]]:
    for start in range(0, len(files), _TOGETHER):
        yield files[start : start + _TOGETHER]


def _pixels(read: EvaluateReader, image: Path) -> Tensor | None:
    """Pixels of an image file; ``None`` if it cannot be read, which the loader tells later."""
    try:
        return read_pixels(image, read.transform, read.max_pixels)
    except UnreadableImage:
        return None
