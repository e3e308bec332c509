"""Tested runs side by side: their scores, and paired differences over the same images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lit_biqa.evaluation.bootstrap import paired_differences
from lit_biqa.evaluation.hyperparameters import Setting, read_hyperparameters
from lit_biqa.evaluation.report import Result, read_results
from lit_biqa.evaluation.store import read_predictions
from lit_biqa.types import InputError, nearest

Test = tuple[str, str, str]
"""Data set, split and condition."""
Image = tuple[str, str]
"""Index and name of an image within its data set."""


@dataclass(frozen=True)
class Run:
    """A tested run with one set of weights.

    Attributes:
        folder: run folder, as named by the user.
        weights: short digest of these weights.
        settings: flat settings of the run.
        results: results by data set, split and condition.
    """

    folder: Path
    weights: str
    settings: dict[str, Setting]
    results: dict[Test, Result]


@dataclass(frozen=True)
class Difference:
    """Difference in correlation with MOS between two runs on the same images.

    Attributes:
        n: images that both rated.
        left_out: images that one of them did not rate.
        plcc: difference of PLCC.
        plcc_interval: its 95% interval.
        srcc: difference of SRCC.
        srcc_interval: its 95% interval.
    """

    n: int
    left_out: int
    plcc: float
    plcc_interval: tuple[float, float]
    srcc: float
    srcc_interval: tuple[float, float]

    @property
    def significant(self) -> bool:
        """True if the interval of the SRCC difference excludes zero."""
        low, high = self.srcc_interval
        return low > 0 or high < 0


def read_runs(folder: Path) -> list[Run]:
    """Settings and scores of a run, once per set of weights; empty if it was not tested.

    Raises:
        InputError: if there is no such folder; names the nearest.
    """
    if not folder.is_dir():
        beside = [str(path) for path in sorted(folder.parent.glob("*")) if path.is_dir()]
        hint = nearest(str(folder), beside) if beside else ""
        raise InputError(f"there is no run folder {folder}{hint}")
    file = folder / "test" / "results.csv"
    if not file.is_file():
        return []
    settings = read_hyperparameters(folder)
    by_weights: dict[str, dict[Test, Result]] = {}
    for result in read_results(file):
        key = (result.dataset, result.split, result.condition)
        by_weights.setdefault(result.weights, {})[key] = result
    return [Run(folder, weights, settings, results) for weights, results in by_weights.items()]


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
    """Tests of any of the runs; means only where all were tested on the same sets."""
    tests = {key: result for run in runs for key, result in run.results.items()}
    same = all(run.results.keys() == runs[0].results.keys() for run in runs)
    return [key for key, result in tests.items() if same or not result.is_mean]


def scores_of(run: Run) -> dict[Test, dict[Image, tuple[float, float]]]:
    """Score and MOS of each image that a run scored, by test; empty without predictions."""
    file = run.folder / "test" / "predictions.csv"
    scores: dict[Test, dict[Image, tuple[float, float]]] = {}
    if not file.is_file():
        return scores
    for row in read_predictions(file):
        if row.get("weights", run.weights) != run.weights:
            continue
        test = (row["dataset"], row["split"], row["condition"])
        score = float(row["score"] or "nan") if row["status"] == "ok" else math.nan
        scores.setdefault(test, {})[row["index"], row["name"]] = (score, float(row["mos"]))
    return scores


def differences(
    baseline: Run, run: Run, resamples: int = 1000, seed: int = 0
) -> dict[Test, Difference]:
    """Paired differences between a run and a baseline, for each test with predictions of both.

    Args:
        baseline: run that is subtracted.
        run: run that is compared with it.
        resamples: bootstrap resamples of the images, the same for both runs.
        seed: seed of the resampling.
    """
    first, second = scores_of(baseline), scores_of(run)
    compared = {}
    for test in first.keys() & second.keys():
        images = sorted(first[test].keys() | second[test].keys())
        nothing = (math.nan, math.nan)
        values = np.array(
            [(*first[test].get(i, nothing), *second[test].get(i, nothing)) for i in images]
        )
        rated = np.isfinite(values).all(axis=1)
        if rated.sum() < 3:
            continue
        before, mos, scores, _ = values[rated].T
        (plcc, *p), (srcc, *s) = paired_differences(scores, before, mos, resamples, seed)
        compared[test] = Difference(
            int(rated.sum()), int((~rated).sum()), plcc, (p[0], p[1]), srcc, (s[0], s[1])
        )
    return compared
