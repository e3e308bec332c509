"""Part of a training set held out for validation, and images met on both sides of a test."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from lit_biqa.types import InputError, Sample


def hold_out(
    samples: Sequence[Sample], fraction: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Set samples aside, of each data set the same share.

    Images of one reference stay together: versions of one picture on both sides would make the
    held-out part look too good. Which are set aside follows from names and seed alone.

    Args:
        samples: of one data set or many.
        fraction: share of the references, or of the images where there are none, in [0, 1).
        seed: other seeds hold other images out.

    Returns:
        What stays and what is held out, both in their order.

    Raises:
        InputError: if the fraction is out of range, or a data set is too small to part.
    """
    if not 0 <= fraction < 1:
        raise InputError(f"val_fraction={fraction}: give a share of the images, 0 <= share < 1")
    held: set[tuple[str, str]] = set()
    for dataset in {s.dataset for s in samples} if fraction else set():
        groups = sorted({_group(s) for s in samples if s.dataset == dataset})
        if len(groups) < 2:
            raise InputError(
                f"{dataset}: nothing can be held out of its {len(groups)} training images or "
                "references; name validation sets in data.val, or set data.val_fraction=0"
            )
        groups.sort(key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest())
        count = min(max(1, round(fraction * len(groups))), len(groups) - 1)
        held.update((dataset, group) for group in groups[:count])
    kept = [s for s in samples if (s.dataset, _group(s)) not in held]
    return kept, [s for s in samples if (s.dataset, _group(s)) in held]


def overlap(train: Sequence[Sample], test: Sequence[Sample]) -> dict[str, int]:
    """How many test images of each data set are trained on too, where there are any."""
    seen = {(s.dataset, s.index) for s in train}
    both = [s.dataset for s in test if (s.dataset, s.index) in seen]
    return {dataset: both.count(dataset) for dataset in sorted(set(both))}


def _group(sample: Sample) -> str:
    return sample.reference or f"{sample.index}/{sample.name}"
