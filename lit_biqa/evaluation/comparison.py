"""Tested runs side by side: their scores, and paired differences over the same images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lit_biqa.evaluation.bootstrap import cluster_codes, paired_differences
from lit_biqa.evaluation.conditions import Condition
from lit_biqa.evaluation.hyperparameters import Setting, read_hyperparameters
from lit_biqa.evaluation.report import Result, read_results
from lit_biqa.evaluation.significance import exchange_test, holm
from lit_biqa.evaluation.store import cluster_of, read_ratings
from lit_biqa.types import InputError, nearest

Test = tuple[str, str, str]
"""Data set, split and condition."""
Image = tuple[str, str]
"""Index and name of an image within its data set."""
COMPARED = ("plcc", "srcc")
"""Correlations that are compared."""
_SHIPPED = ("scorer.safetensors", "weights/*.safetensors")  # of RALI, of language models
SAME_MOS = 0.01
"""Largest difference of two MOS that rounding explains."""


class Rated(NamedTuple):
    """Score and MOS of an image, and the group that a cluster bootstrap resamples."""

    score: float = math.nan
    mos: float = math.nan
    cluster: str = ""


Scores = dict[Image, Rated]


@dataclass(frozen=True)
class Run:
    """A tested run with one set of weights.

    Attributes:
        folder: run folder, as named by the user.
        weights: short digest of these weights.
        results: results by data set, split and condition.
    """

    folder: Path
    weights: str
    results: dict[Test, Result]

    @cached_property
    def settings(self) -> dict[str, Setting]:
        """Flat settings of the run, from its ``config.yaml``."""
        return read_hyperparameters(self.folder)

    @cached_property
    def parameters(self) -> int | None:
        """Numbers in the weights that a fit has shipped; ``None`` if there are none, or damaged."""
        from safetensors import SafetensorError

        files = [file for name in _SHIPPED for file in self.folder.glob(name)]
        try:
            return sum(map(_numbers_in, files)) or None
        except (SafetensorError, OSError):
            return None

    @cached_property
    def scores(self) -> dict[Test, Scores]:
        """Each image by test, with a score of ``nan`` for a failure; empty without predictions."""
        file = self.folder / "test" / "predictions.csv"
        scores: dict[Test, Scores] = {}
        for row, score, mos in read_ratings(file) if file.is_file() else ():
            if row["weights"] == self.weights:
                test = (row["dataset"], row["split"], row["condition"])
                rated = Rated(score, mos, cluster_of(row))
                scores.setdefault(test, {})[row["index"], row["name"]] = rated
        return scores


def _numbers_in(file: Path) -> int:
    """Numbers in a file of safetensors, from its header."""
    from safetensors import safe_open

    with safe_open(file, framework="np") as held:
        shapes = [held.get_slice(name).get_shape() for name in held.keys()]  # noqa: SIM118
    return sum(math.prod(shape) for shape in shapes)


@dataclass(frozen=True)
class Change:
    """Difference of a correlation between two predictions of the same images.

    Attributes:
        value: the difference.
        low: lower end of its 95% interval, by paired bootstrap.
        high: upper end.
        p: probability of one as large if both were alike, after Holm's correction over data sets.
        cluster_low: lower end of the interval by cluster bootstrap; ``nan`` without groups.
        cluster_high: its upper end.
    """

    value: float
    low: float
    high: float
    p: float
    cluster_low: float = math.nan
    cluster_high: float = math.nan


@dataclass(frozen=True)
class Difference:
    """Differences in correlation with MOS between two predictions of the same images.

    Attributes:
        n: images that both rated.
        left_out: images that one of them did not rate.
        other_mos: images that both rated, with a MOS of their own in each; the first one counts.
        plcc: difference of PLCC.
        srcc: difference of SRCC.
    """

    n: int
    left_out: int
    other_mos: int
    plcc: Change
    srcc: Change


def read_runs(folder: Path) -> list[Run]:
    """Scores of a run, once per set of weights; empty if there are none, or it is a file.

    Raises:
        InputError: if there is nothing of that name; names the nearest.
    """
    if not folder.exists():
        beside = [str(path) for path in sorted(folder.parent.glob("*")) if path.is_dir()]
        hint = nearest(str(folder), beside) if beside else ""
        raise InputError(f"there is no run folder {folder}{hint}")
    file = folder / "test" / "results.csv"
    if not file.is_file():
        return []
    by_weights: dict[str, dict[Test, Result]] = {}
    for result in read_results(file):
        key = (result.dataset, result.split, result.condition)
        by_weights.setdefault(result.weights, {})[key] = result
    return [Run(folder, weights, results) for weights, results in by_weights.items()]


def names_of(runs: Sequence[Run]) -> list[str]:
    """Shortest unique end of each run's path, with weights if needed."""
    folders = [run.folder for run in runs]
    short = {folder: _end(folder, set(folders) - {folder}) for folder in folders}
    several = {folder for folder in folders if folders.count(folder) > 1}
    return [
        f"{short[run.folder]} @{run.weights}" if run.folder in several else short[run.folder]
        for run in runs
    ]


def _end(folder: Path, others: set[Path]) -> str:
    for length in range(1, len(folder.parts) + 1):
        end = folder.parts[-length:]
        if all(other.parts[-length:] != end for other in others):
            return str(Path(*end))
    return str(folder)


def differing(runs: Sequence[Run]) -> list[str]:
    """Names of the settings that differ between runs or exist only in some."""
    names = sorted({name for run in runs for name in run.settings})
    return [n for n in names if len({repr(run.settings.get(n, "absent")) for run in runs}) > 1]


def shared_tests(runs: Sequence[Run]) -> list[Test]:
    """Tests of any of the runs; a mean only if its condition has the same sets in all runs."""
    tests = {key: result for run in runs for key, result in run.results.items()}
    return [
        key
        for key, result in tests.items()
        if not result.is_mean or len({_sets(run, key[2]) for run in runs} - {frozenset()}) == 1
    ]


def _sets(run: Run, condition: str) -> frozenset[tuple[str, str]]:
    """Data sets and splits on which a run was tested under a condition."""
    return frozenset(
        key[:2] for key, result in run.results.items() if key[2] == condition and not result.is_mean
    )


def differences(
    baseline: Run, run: Run, resamples: int = 1000, seed: int = 0
) -> dict[Test, Difference]:
    """Paired differences between a run and a baseline, for each test with predictions of both.

    Args:
        baseline: run that is subtracted.
        run: run that is compared with it.
        resamples: bootstrap resamples of the images, the same for both runs, and exchanges of the
            test.
        seed: seed of the resampling.
    """
    first, second = baseline.scores, run.scores
    pairs = {test: (first[test], second[test]) for test in first if test in second}
    return _compared(pairs, resamples, seed)


def gaps(run: Run, resamples: int = 1000, seed: int = 0) -> dict[Test, Difference]:
    """Paired differences between scores read from images and from texts, for each test of texts.

    Args:
        run: run with predictions of both conditions.
        resamples: as in `differences`.
        seed: seed of the resampling.
    """
    pairs = {}
    for dataset, split, condition in run.scores:
        read = Condition.parse(condition)
        image = (dataset, split, str(read.image))
        if read.reads_text and image in run.scores:
            test = (dataset, split, str(replace(read, is_gap=True)))
            pairs[test] = run.scores[dataset, split, condition], run.scores[image]
    return _compared(pairs, resamples, seed)


def _compared(
    pairs: Mapping[Test, tuple[Scores, Scores]], resamples: int, seed: int
) -> dict[Test, Difference]:
    """Differences of the second scores from the first, corrected over the sets of a condition."""
    found = {test: _difference(*pair, resamples, seed) for test, pair in pairs.items()}
    compared = {test: change for test, change in found.items() if change}
    for condition in {condition for _, _, condition in compared}:
        family = [test for test in compared if test[2] == condition]
        for metric in COMPARED:
            changes: list[Change] = [getattr(compared[test], metric) for test in family]
            adjusted = holm([change.p for change in changes])
            for test, change, p in zip(family, changes, adjusted, strict=True):
                changed: dict[str, Any] = {metric: replace(change, p=p)}
                compared[test] = replace(compared[test], **changed)
    return compared


def _difference(first: Scores, second: Scores, resamples: int, seed: int) -> Difference | None:
    """Difference over the images that both rated; None where there are fewer than three."""
    images = sorted(first.keys() | second.keys())
    both = [(first.get(i, Rated()), second.get(i, Rated())) for i in images]
    values = np.array([(*one[:2], *other[:2]) for one, other in both])
    rated = np.isfinite(values).all(axis=1)
    if rated.sum() < 3:
        return None
    before, mos, scores, other_mos = values[rated].T
    p = exchange_test(scores, before, mos, resamples, seed)
    found = paired_differences(scores, before, mos, resamples, seed)
    changes = [Change(*ends, each) for ends, each in zip(found, p, strict=True)]
    codes = cluster_codes([both[row][0].cluster for row in np.flatnonzero(rated)])
    if codes is not None:
        drawn = paired_differences(scores, before, mos, resamples, seed, codes)
        changes = [
            replace(change, cluster_low=low, cluster_high=high)
            for change, (_, low, high) in zip(changes, drawn, strict=True)
        ]
    moved = int((np.abs(other_mos - mos) > SAME_MOS).sum())
    return Difference(len(mos), len(images) - len(mos), moved, *changes)
