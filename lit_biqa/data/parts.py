"""Parts of a run's images: training, held out, test and prediction."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lit_biqa.data.catalog import CONVERSATIONS, NAMES
from lit_biqa.data.images import SUFFIXES, has_image_suffix, list_files, list_images
from lit_biqa.data.readers.entry import digest
from lit_biqa.io.files import as_utf8
from lit_biqa.types import InputError, Sample

log = logging.getLogger(__name__)

_NAMED = 10  # most files named in one warning


def hold_out(
    samples: Sequence[Sample], fraction: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Hold out the same share of each data set.

    Images of one reference stay together: versions of one picture on both sides would make the
    held-out results too good. The choice depends on names and seed only.

    Args:
        samples: samples of one or more data sets.
        fraction: share of the references, or of the images if there are none, in [0, 1).
        seed: seed of the choice.

    Returns:
        Samples that stay, and samples that are held out, both in their order.

    Raises:
        InputError: if the fraction is out of range, or a data set is too small to split.
    """
    if not 0 <= fraction < 1:
        raise InputError(
            f"data.val is {fraction}: give data sets, or a share of the images, 0 <= share < 1"
        )
    held: set[tuple[str, str]] = set()
    for dataset in {s.dataset for s in samples} if fraction else set():
        groups = sorted({_group(s) for s in samples if s.dataset == dataset})
        if len(groups) < 2:
            raise InputError(
                f"{dataset}: nothing can be held out of its {len(groups)} training images or "
                "references; name validation sets in data.val, or set data.val=0"
            )
        groups.sort(key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest())
        count = min(max(1, round(fraction * len(groups))), len(groups) - 1)
        held.update((dataset, group) for group in groups[:count])
    rest = [s for s in samples if (s.dataset, _group(s)) not in held]
    return rest, [s for s in samples if (s.dataset, _group(s)) in held]


def limited(samples: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """At most ``count`` of the samples of one data set, drawn by a hash of their names.

    Which are drawn follows from names and seed alone, whatever the number of processes.

    Example: of 596 images of the split ``random-0@3d48a191`` with a count of 50, 50 are left, and
    their split is ``random-0-limit-50`` with the digest of these 50.

    Args:
        samples: of one part of a data set.
        count: most that are left.
        seed: another draws others.

    Returns:
        The drawn samples in their order; all of them, unchanged, where there are no more.
    """
    if len(samples) <= count:
        return list(samples)

    def draw(sample: Sample) -> bytes:
        return hashlib.sha256(f"{seed}/{sample.index}/{sample.name}".encode()).digest()

    drawn = {sample.index for sample in sorted(samples, key=draw)[:count]}
    left = [sample for sample in samples if sample.index in drawn]
    split, named, _ = left[0].split.partition("@")
    if not named:  # files to predict, which form no split
        return left
    mark = digest((sample.name, sample.mos) for sample in left)
    return [replace(sample, split=f"{split}-limit-{count}@{mark}") for sample in left]


def warn_of_overlap(train: Sequence[Sample], test: Sequence[Sample]) -> None:
    """Warn of test images that are also training images, with their number per data set."""
    seen = {(s.dataset, s.index) for s in train}
    both = Counter(s.dataset for s in test if (s.dataset, s.index) in seen)
    for dataset, count in sorted(both.items()):
        log.warning("%d test images of %s are also training images", count, dataset)


def is_dataset(item: str) -> bool:
    """True if an item of ``predict`` names a data set, rather than a folder or an image."""
    return item.endswith(".csv") or re.split("[/:]", item)[0] in (*NAMES, CONVERSATIONS)


def to_predict(items: Sequence[str]) -> list[Sample]:
    """Samples without MOS for folders and image files, numbered consecutively.

    The data set of a folder's images is the folder's name, and their names are relative to it;
    image files that are named one by one belong to the data set ``images``.

    Raises:
        InputError: if an item is neither folder nor image file, or a folder holds no image.
    """
    files: list[tuple[str, str, Path]] = []
    for item in items:
        path = Path(item)
        if path.is_dir():
            inside = [(p.relative_to(path).as_posix(), p) for p in list_images(path)]
            _name_others(path)
            files += [(path.resolve().name, name, file) for name, file in inside]
        elif has_image_suffix(path) and path.is_file():
            files.append(("images", item, path))
        else:
            raise InputError(
                f"{item}: no folder, image file or data set; data.predict takes folders, files "
                f"({' '.join(sorted(SUFFIXES))}) and data sets ({', '.join(NAMES)})"
            )
    return [
        Sample(dataset=dataset, split="predict", index=i, name=name, path=path)
        for i, (dataset, name, path) in enumerate(files)
    ]


def _name_others(folder: Path) -> None:
    """Warn of files in a folder that are not scored because they have no image suffix."""
    others = [p for p in list_files(folder) if not has_image_suffix(p)]
    if others:
        names = ", ".join(p.relative_to(folder).as_posix() for p in others[:_NAMED])
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        log.warning("%s: files of these kinds are not read: %s%s", folder, as_utf8(names), more)


def _group(sample: Sample) -> str:
    return sample.groups.get("reference") or f"{sample.index}/{sample.name}"
