"""Agreement within groups of images, such as those of one generator, and between groups.

Where groups differ much in MOS, a correlation over all images may only tell the groups apart. The
figures here separate the two: the order of images within a group, and the order of the groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lit_biqa.evaluation.bootstrap import Array
from lit_biqa.evaluation.metrics import RESOLUTION

LEAST_IMAGES = 5
"""Scored images that a group needs to count in ``srcc_within``."""
LEAST_GROUPS = 3
"""Groups that a correlation of group means needs."""


class GroupFigures(NamedTuple):
    """Agreement with MOS within groups and between them; ``nan`` where it is undefined.

    Attributes:
        srcc_within: mean of Spearman's correlations within each group. Every group counts the
            same. Groups with fewer than `LEAST_IMAGES` scored images or with constant MOS are left
            out; a group whose scores are all equal counts as 0, since they order nothing.
        plcc_groups: Pearson's correlation of the groups' mean scores with their mean MOS.
        srcc_groups: Spearman's correlation of these means.
    """

    srcc_within: float = math.nan
    plcc_groups: float = math.nan
    srcc_groups: float = math.nan


def group_figures(
    scores: Sequence[float], mos: Sequence[float], groups: Sequence[str]
) -> GroupFigures:
    """Compare predicted scores with MOS within groups and between them.

    Example: scores 1, 2, 3, 4, 5 and MOS 2, 1, 3, 4, 5 in a single group -> ``srcc_within`` 0.9,
    and no correlation of group means, which needs three groups.

    Args:
        scores: predicted scores ``[N]``; a value that is not finite is left out.
        mos: mean opinion scores ``[N]``; likewise.
        groups: group of each image ``[N]``; images without one (empty) are left out.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    for group, score, rating in zip(groups, scores, mos, strict=True):
        if group and math.isfinite(score) and math.isfinite(rating):
            pairs.setdefault(group, []).append((score, rating))
    members = [np.array(rows) for rows in pairs.values()]
    within = [
        0.0 if _constant(rows[:, 0]) else _srcc(*rows.T)
        for rows in members
        if len(rows) >= LEAST_IMAGES and not _constant(rows[:, 1])
    ]
    inside = float(np.mean(within)) if within else math.nan
    if len(members) < LEAST_GROUPS:
        return GroupFigures(inside)
    return GroupFigures(inside, *correlations(*np.array([r.mean(axis=0) for r in members]).T))


def correlations(x: Array, y: Array) -> tuple[float, float]:
    """PLCC and SRCC of two arrays ``[N]``, without torch; ``nan`` where one is constant."""
    from scipy.stats import pearsonr

    if _constant(x) or _constant(y):
        return math.nan, math.nan
    return float(pearsonr(x, y).statistic), _srcc(x, y)


def _srcc(x: Array, y: Array) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic)


def _constant(values: Array) -> bool:
    return bool(np.ptp(values) < RESOLUTION)
