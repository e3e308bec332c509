"""Thumbnails inside a page: small WebP pictures as data URIs, within a number of bytes."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from PIL import Image

from lit_biqa.data.images import UnreadableImage, open_small
from lit_biqa.io.data_urls import webp_url

K = TypeVar("K", bound=Hashable)

SIDES = (320, 240, 160, 112, 80, 56, 40)
"""Longer sides in pixels, tried one after another until a picture fits its share of bytes."""
_QUALITY = 60
_THREADS = 4  # Pillow decodes outside of Python's lock
_SHOWN = 2000  # pictures from which on progress is told


@dataclass(frozen=True)
class Thumbnail:
    """A picture made small.

    Attributes:
        uri: data URI; empty if the file could not be read or its share of bytes was too small.
        width: width of the original in pixels; 0 if it could not be read.
        height: height of the original.
    """

    uri: str = ""
    width: int = 0
    height: int = 0


def thumbnails(paths: Mapping[K, Path], budget: int, largest: int = SIDES[2]) -> dict[K, Thumbnail]:
    """Thumbnails of images, each within its share of the bytes.

    Example: 10,000 images in 20 MB -> at most 2,000 characters each, 56 to 112 pixels wide.

    Args:
        paths: file of each image.
        budget: characters that all data URIs together may take.
        largest: longer side in pixels that none exceeds.
    """
    share = budget // max(1, len(paths))
    sides = [side for side in SIDES if side <= largest]
    files = list(dict.fromkeys(paths.values()))
    small = partial(_thumbnail, share=share, sides=sides)
    with ThreadPoolExecutor(_THREADS) as pool:
        made: Iterable[Thumbnail] = pool.map(small, files)
        if len(files) >= _SHOWN:
            from lit_biqa.progress import track  # imports torch, which a page needs for nothing

            made = track(made, "Drawing thumbnails", len(files), "images")
        of_file = dict(zip(files, made, strict=True))
    return {key: of_file[path] for key, path in paths.items()}


def _thumbnail(path: Path, share: int, sides: list[int]) -> Thumbnail:
    try:
        image, (width, height) = open_small(path, sides[0])
    except UnreadableImage:
        return Thumbnail()
    for side in sides:
        image.thumbnail((side, side), Image.Resampling.BOX)
        uri = webp_url(image, _QUALITY)
        if len(uri) <= share:
            return Thumbnail(uri, width, height)
    return Thumbnail("", width, height)
