"""The synthetic data set: images from a seed or from photographs, distorted, rated, described.

Nothing is downloaded. One folder per settings holds ``images/``, ``labels.csv`` (columns
``name,mos,std,reference,text``, a row per text) and ``settings.json``. Scores are defined in
`lit_biqa.data.pseudo_mos`, images in `dead_leaves` and `distortions`.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import zlib
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator, default_rng
from PIL import Image, ImageOps

from lit_biqa.data.dead_leaves import dead_leaves
from lit_biqa.data.distortions import DISTORTIONS, LEVELS, Bytes, distort
from lit_biqa.data.images import list_images, open_image
from lit_biqa.data.pseudo_mos import measure, quality, rate
from lit_biqa.data.readers.synthetic import LABELS, read
from lit_biqa.data.synthetic_texts import PRISTINE, reasonings
from lit_biqa.io.digests import digest_of_file
from lit_biqa.io.files import draft
from lit_biqa.progress import track
from lit_biqa.runs import stops
from lit_biqa.types import InputError, Sample

COLUMNS = ("name", "mos", "std", "reference", "text")
RECIPE = 1  # increases when the same settings make another set; older folders are kept
VARIANTS = (
    (PRISTINE, 0),
    *((kind, level) for kind in DISTORTIONS for level in range(1, LEVELS + 1)),
)
SMALLEST = 32  # JPEG 2000 halves an image five times


@dataclass(frozen=True)
class SyntheticSettings:
    """Content of the synthetic data set.

    Attributes:
        sources: number of pristine images; at most so many photographs, in the order of names.
        images_per_source: images from each source: the pristine one, and distorted ones drawn
            from all types and levels without repeats; at most 66.
        size: side of the square images in pixels, 32 or more.
        texts: reasoning texts for each image; 0 for none.
        seed: seed of all randomness.
        pristine: folder of photographs to distort instead of generated images. The largest
            central square of each is reduced to ``size``.

    Raises:
        InputError: if a number is out of range.
    """

    sources: int = 50
    images_per_source: int = 20
    size: int = 128
    texts: int = 3
    seed: int = 0
    pristine: str | None = None

    def __post_init__(self) -> None:
        ranges = {
            "sources": (1, 100_000),
            "images_per_source": (1, len(VARIANTS)),
            "size": (SMALLEST, 4096),
            "texts": (0, 1000),
            "seed": (0, 2**63),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(
                    f"synthetic data set: {name} is {getattr(self, name)}; "
                    f"give a number from {low} to {high}."
                )


def folder(root: str | Path, settings: SyntheticSettings) -> Path:
    """Folder of the set with these settings, made or not.

    Raises:
        InputError: if the folder of photographs is absent or holds no image.
    """
    return _place(Path(root), _record(settings))


def generate(root: str | Path, settings: SyntheticSettings) -> Path:
    """Make the set under ``root`` unless it is there.

    The set appears whole or not at all, and processes can make it at the same time.

    Args:
        root: data root; made if absent.
        settings: what to make.

    Returns:
        The set's folder.

    Raises:
        InputError: if a photograph is unreadable or smaller than the set's images, or a folder
            of the set's name holds something else.
    """
    record = _record(settings)
    place = _place(Path(root), record)
    if place.exists():
        return _checked(place, record)
    try:
        with draft(place) as made:
            (made / "images").mkdir()
            _write(made, settings)
            contents = {**record, LABELS: digest_of_file(made / "labels.csv")}
            text = json.dumps(contents, indent=2) + "\n"
            (made / "settings.json").write_text(text, encoding="utf-8")
            made.rename(place)
    except OSError:
        if not place.exists():
            raise
    return _checked(place, record)


def samples(folder: Path) -> list[Sample]:
    """Every image of a set made by `generate`, in order; ``split`` is empty.

    Raises:
        InputError: if its label file is absent or altered.
    """
    return [
        Sample(
            dataset="synthetic",
            split="",
            index=index,
            name=label.name,
            path=folder / "images" / label.name,
            mos=label.mos,
            std=label.std,
            groups=label.groups,
            texts=label.texts,
        )
        for index, label in enumerate(read(folder))
    ]


def _photographs(settings: SyntheticSettings) -> list[Path]:
    if settings.pristine is None:
        return []
    return list_images(Path(settings.pristine))[: settings.sources]


def _record(settings: SyntheticSettings) -> dict[str, Any]:
    """Everything that determines the content; photographs count by name and size in bytes."""
    photographs: list[list[str | int]] | None = None
    if settings.pristine is not None:
        photographs = [
            [path.relative_to(settings.pristine).as_posix(), path.stat().st_size]
            for path in _photographs(settings)
        ]
    return {**asdict(settings), "pristine": photographs, "recipe": RECIPE}


def _place(root: Path, record: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:8]
    return root / f"synthetic-{digest}"


def _checked(place: Path, record: dict[str, Any]) -> Path:
    try:
        content = json.loads((place / "settings.json").read_text(encoding="utf-8"))
        content.pop(LABELS, None)
    except (OSError, ValueError, AttributeError) as error:
        content = error
    if content != record or not (place / "labels.csv").is_file():
        raise InputError(
            f"{place} is not the synthetic data set that its name stands for. Remove it to have "
            "the set made again, or set another data root."
        )
    return place


def _write(made: Path, settings: SyntheticSettings) -> None:
    photographs = _photographs(settings)
    count = len(photographs) or settings.sources
    make = partial(_make_source, made / "images", settings, photographs)
    with (made / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        # The content does not depend on the number of processes.
        with Pool(min(os.cpu_count() or 1, count), stops.end_by_signals) as pool:
            rows_of = pool.imap(make, range(count))
            for rows in track(rows_of, "Making synthetic images", count, unit="sources"):
                table.writerows(rows)


def _make_source(
    images: Path, settings: SyntheticSettings, photographs: list[Path], source: int
) -> list[tuple[str, ...]]:
    """Write the images of one source; returns their rows of ``labels.csv``."""
    draw = partial(_generator, settings.seed, source)
    if photographs:
        name = photographs[source].relative_to(settings.pristine or "").as_posix()
        pristine = _reduced(photographs[source], settings.size)
    else:
        name = f"leaves-{source:03d}"
        pristine = dead_leaves(draw("leaves"), settings.size)
    content = measure(pristine)
    chosen = draw("variants").permutation(len(VARIANTS) - 1)[: settings.images_per_source - 1] + 1
    rows: list[tuple[str, ...]] = []
    for kind, level in (VARIANTS[i] for i in (0, *sorted(chosen))):
        file = f"{source:03d}-{kind}-{level}.png"
        # One generator for all levels of a type, so that they differ in strength alone.
        _save(distort(pristine, kind, level, draw("distortion", kind)), images / file)
        good = quality(kind, level, content)
        mos, std = rate(good, draw("raters", kind, level))
        texts = reasonings(kind, good, content, settings.texts, draw("texts", kind, level))
        rows += [(file, f"{mos:.4f}", f"{std:.4f}", name, text) for text in texts or ("",)]
    return rows


def _generator(seed: int, source: int, *use: str | int) -> Generator:
    """Generator for one purpose at one source, independent of all others."""
    return default_rng([seed, source, zlib.crc32("/".join(map(str, use)).encode())])


def _reduced(path: Path, size: int) -> Bytes:
    """The largest central square of a photograph, reduced to ``[size, size, 3]``."""
    photograph = open_image(path)
    if min(photograph.size) < size:
        raise InputError(
            f"{path} is {photograph.width} x {photograph.height} pixels, smaller than the "
            f"{size} of the synthetic data set's images; enlarging would blur it. Set a smaller "
            "size or take it out of the folder."
        )
    return np.asarray(ImageOps.fit(photograph, (size, size), Image.Resampling.LANCZOS))


def _save(pixels: Bytes, path: Path) -> None:
    Image.fromarray(pixels).save(path, compress_level=1)  # 6, the default, takes twice as long
