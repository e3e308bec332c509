"""Baseline that sees no image: the mean training MOS of each test image's group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from lit_biqa.evaluation.groups import correlations
from lit_biqa.types import Sample


@dataclass(frozen=True)
class GroupMeans:
    """Correlation of group means with the MOS of test images.

    Attributes:
        groups: groups of the test images.
        unseen: those among them of which no training image is known.
        images: test images.
        plcc: Pearson's correlation; ``nan`` where every image gets the same score.
        srcc: Spearman's correlation; likewise.
    """

    groups: int
    unseen: int
    images: int
    plcc: float
    srcc: float


def group_means(train: Sequence[Sample], test: Sequence[Sample], kind: str) -> GroupMeans:
    """Score test images by the mean training MOS of their group, and correlate with their MOS.

    An image of an unseen group, or of none, gets the mean training MOS. A method that reads images
    should exceed these correlations: they can be had without reading one.

    Example: training MOS 1, 2 for generator A and 4 for B -> test images of A get 1.5, of B 4.

    Args:
        train: training images with MOS.
        test: test images with MOS.
        kind: key of `Sample.groups`.
    """
    members: dict[str, list[float]] = {}
    for sample in train:
        if sample.groups.get(kind):
            members.setdefault(sample.groups[kind], []).append(sample.mos)
    means = {group: fmean(mos) for group, mos in members.items()}
    overall = fmean(sample.mos for sample in train)
    scores = [means.get(sample.groups.get(kind, ""), overall) for sample in test]
    plcc, srcc = correlations(np.array(scores), np.array([sample.mos for sample in test]))
    tested = {sample.groups[kind] for sample in test if sample.groups.get(kind)}
    return GroupMeans(len(tested), len(tested - means.keys()), len(test), plcc, srcc)
