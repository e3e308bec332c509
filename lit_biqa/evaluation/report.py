"""Report of a test: one line for each data set and condition, their means, and its files."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import TextIO

from lit_biqa.evaluation.conditions import IMAGE, Condition, by_leak, gap
from lit_biqa.evaluation.groups import GroupFigures, group_figures
from lit_biqa.evaluation.metrics import Correlations, correlate, mean
from lit_biqa.io.files import refuse_special, replacing
from lit_biqa.types import InputError, Prediction

MEAN, _NO_SPLIT = "mean", "-"
METRICS = tuple(field.name for field in fields(Correlations))
KEYS = ("dataset", "split", "condition")
COLUMNS = (*KEYS, *METRICS, "weights")
_UNCLUSTERED = tuple(name for name in METRICS if "_cluster_" not in name)
_FORMER = (*KEYS, *(name for name in _UNCLUSTERED if name not in GroupFigures._fields))
HEADERS = (COLUMNS, (*KEYS, *_UNCLUSTERED, "weights"), (*_FORMER, "weights"), _FORMER)
"""Columns of `results.csv`, then those of former versions."""
UNKNOWN = "-"
"""Weights of lines in a file from before the column of weights existed."""
ROW_COLUMNS = ("dataset", "split", "condition", "name", "mos", "score", "status")


@dataclass(frozen=True)
class Result:
    """A line of `results.csv`: one data set under one condition, or the mean of a condition.

    Attributes:
        dataset: catalogue name, or ``mean``.
        split: split and digest; ``-`` for the mean.
        condition: input that the scores were read from.
        correlations: the columns after these three.
        weights: short digest of the tested weights, or of the source of the scores.
    """

    dataset: str
    split: str
    condition: str
    correlations: Correlations
    weights: str = UNKNOWN

    @property
    def is_mean(self) -> bool:
        """True for a mean; a data set may have the name, but it has a split."""
        return (self.dataset, self.split) == (MEAN, _NO_SPLIT)

    @property
    def is_derived(self) -> bool:
        """True if the line follows from other lines: a mean, or a gap between image and text."""
        return self.is_mean or Condition.parse(self.condition).is_gap


def identity(row: Prediction) -> tuple[str, str, str, int]:
    """Identity of a row, and the order of rows: by data set first."""
    return row.dataset, row.split, row.condition, row.index


def failed(row: Prediction) -> bool:
    """True if a row has no score that counts."""
    return row.status != "ok" or not math.isfinite(row.score)


def checked(outputs: object, step: str) -> list[Prediction]:
    """Return value of a method's step, checked.

    Raises:
        TypeError: if it is not a list of predictions.
    """
    if not isinstance(outputs, list) or not all(isinstance(row, Prediction) for row in outputs):
        raise TypeError(f"{step} must return list[Prediction], not {type(outputs).__name__}")
    return outputs


def grouped(rows: Sequence[Prediction]) -> dict[tuple[str, str, str], list[Prediction]]:
    """Rows by ``(dataset, split, condition)``, sorted."""
    ordered = sorted(rows, key=identity)
    return {key: list(group) for key, group in groupby(ordered, lambda row: identity(row)[:3])}


def evaluate(
    rows: Sequence[Prediction], bootstrap: int = 1000, seed: int = 0, weights: str = UNKNOWN
) -> list[Result]:
    """Correlate the rows of each data set and condition, and derive gaps and means.

    A row is a failure if its status is not ``ok`` or its score is not finite; `Correlations` says
    how failures count. Rows read from texts count again by leakage of their text.

    Args:
        rows: all rows of the test, free of repeats.
        bootstrap: number of resamples for the intervals; 0 for none.
        seed: seed of the resampling, the same for every data set.
        weights: digest of the weights behind the scores.
    """
    results: list[Result] = []
    for (dataset, split, condition), group in grouped([*rows, *by_leak(rows)]).items():
        values = _correlated(group, bootstrap, seed, f"{dataset} ({condition})")
        results.append(Result(dataset, split, condition, values, weights))
    return with_derived(results)


def _correlated(rows: Sequence[Prediction], bootstrap: int, seed: int, label: str) -> Correlations:
    scores = [math.nan if failed(row) else row.score for row in rows]
    mos = [row.mos for row in rows]
    whole = correlate(scores, mos, bootstrap, seed, label, [row.cluster for row in rows])
    if math.isnan(whole.srcc):  # undefined as a whole: no figure of a part stands for it
        return whole
    figures = group_figures(scores, mos, [row.group for row in rows])
    return replace(whole, **figures._asdict())


def with_derived(measured: Sequence[Result]) -> list[Result]:
    """Lines of one set of weights, sorted, followed by the lines derived from them.

    If a set was read from images and from texts, the gap has a line, ``image - <condition>``. Means
    come last, one for each condition with several sets; a single set has no mean, and neither has
    a condition under which one set was tested on several splits, which may hold the same images.
    """
    lines = sorted(measured, key=lambda r: (r.dataset, r.split, r.condition))
    lines += _gaps(lines)
    counts = Counter(line.condition for line in lines)
    several = {condition for condition, _ in repeated(lines)}
    return lines + [
        mean
        for mean in means(lines)
        if counts[mean.condition] > 1 and mean.condition not in several
    ]


def repeated(lines: Sequence[Result]) -> dict[tuple[str, str], list[str]]:
    """Splits by condition and data set, where a data set was tested on several."""
    splits: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        if not line.is_mean:
            splits.setdefault((line.condition, line.dataset), []).append(line.split)
    return {key: names for key, names in splits.items() if len(names) > 1}


def means(lines: Sequence[Result]) -> list[Result]:
    """Mean of each condition over its data sets, each of which counts the same.

    This is the mean that papers print; ``n`` is the total number of images.
    """
    by_condition: dict[str, list[Result]] = {}
    for line in lines:
        by_condition.setdefault(line.condition, []).append(line)
    return [
        Result(MEAN, _NO_SPLIT, name, mean([r.correlations for r in group]), group[0].weights)
        for name, group in sorted(by_condition.items())
    ]


def _gaps(results: Sequence[Result]) -> list[Result]:
    """Lines ``image - text`` and so on, for each data set that was also read from its images."""
    measured = {(r.dataset, r.split, r.condition): r.correlations for r in results}
    return [
        replace(r, condition=str(replace(condition, is_gap=True)), correlations=gap(image, text))
        for r in results
        if (condition := Condition.parse(r.condition)).reads_text
        and (image := measured.get((r.dataset, r.split, str(condition.image))))
        for text in [r.correlations]
    ]


def labels(results: Sequence[Result]) -> list[str]:
    """Short unique name for each line, for metric tags and file names.

    The data set's name; the split follows where a set was tested on several, the condition where
    it is not ``image``, the weights where they are others than those of the first line:
    ``agiqa3k``, ``koniq10k/official``, ``agiqa3k/text``, ``agiqa3k/3fa9c1d2e4b5``. The mean is
    ``mean`` always; a data set called so bears its split beside it.
    """
    splits: dict[str, set[str]] = {}
    for result in results:
        splits.setdefault(result.dataset, set()).add(result.split)
    several = {dataset for dataset, names in splits.items() if len(names) > 1}
    return [
        "/".join(
            [result.dataset]
            + [result.split.replace("@", "-")] * (result.dataset in several and not result.is_mean)
            + [result.condition] * (result.condition != IMAGE)
            + [result.weights] * (result.weights != results[0].weights)
        )
        for result in results
    ]


def number(value: object) -> str:
    """A value as the CSV files write it: a float with six decimals, or ``nan``."""
    return f"{value:.6f}" if isinstance(value, float) else str(value)


class _Lines:
    """File wrapper that ends lines with LF, while csv.writer quotes CR and LF inside cells.

    With LF as its own line end, csv.writer would not quote a lone CR, which no reader accepts.
    """

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, line: str) -> int:
        """Write a line that ends with CR and LF."""
        return self.file.write(f"{line[:-2]}\n")


def write_csv(path: Path, columns: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    """Write a CSV file whole or not at all; floats have six decimals.

    Characters that UTF-8 cannot encode are escaped, as in `lit_biqa.io.files.as_utf8`.

    Raises:
        InputError: if the file cannot be written.
    """
    with (
        replacing(path) as part,
        part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(_Lines(file), lineterminator="\r\n")
        writer.writerow(columns)
        writer.writerows([number(v) if isinstance(v, float) else v for v in line] for line in lines)


def write_results(path: Path, results: Sequence[Result]) -> None:
    """Write `results.csv`, one line per result, with the columns `COLUMNS`."""
    lines = [
        (r.dataset, r.split, r.condition, *(getattr(r.correlations, m) for m in METRICS), r.weights)
        for r in results
    ]
    write_csv(path, COLUMNS, lines)


def read_results(path: Path) -> list[Result]:
    """Read `results.csv` back; columns that former versions did not write may be absent.

    Lines without weights have those of `UNKNOWN`; absent figures are ``nan``.

    Raises:
        InputError: if the file is absent or has other columns.
    """
    refuse_special(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
        if not lines or tuple(lines[0]) not in HEADERS:
            raise ValueError(f"its columns are not {','.join(COLUMNS)}")
        for place, line in enumerate(lines[1:], 2):
            if len(line) != len(lines[0]):
                raise ValueError(f"line {place} has {len(line)} cells, not {len(lines[0])}")
        return [_result(dict(zip(lines[0], line, strict=True))) for line in lines[1:]]
    except OSError as error:
        raise InputError(
            f"no results at {path} ({error.strerror}): run `lit_biqa test` on the run first."
        ) from error
    except (ValueError, TypeError, csv.Error) as error:
        raise InputError(
            f"{path} is no results.csv: {error}. Move it elsewhere; `test` makes a new one."
        ) from error


def _result(cells: dict[str, str]) -> Result:
    counts = {name: int(cells[name]) for name in ("n", "failures")}
    values = {m: float(cells[m]) for m in METRICS if m in cells and m not in counts}
    figures = Correlations(counts["n"], counts["failures"], **values)
    weights = cells.get("weights", UNKNOWN)
    return Result(cells["dataset"], cells["split"], cells["condition"], figures, weights)
