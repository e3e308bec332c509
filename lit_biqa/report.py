"""What a test leaves behind: its table, `results.csv`, `predictions.csv` and scatter figures."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from lit_biqa.conditions import IMAGE, by_leak, gap
from lit_biqa.files import replacing
from lit_biqa.metrics import Correlations, correlate, mean
from lit_biqa.types import InputError, Prediction

if TYPE_CHECKING:
    from rich.table import Table

MEAN = "mean"
METRICS = tuple(field.name for field in fields(Correlations))
COLUMNS = ("dataset", "split", "condition", *METRICS)
ROW_COLUMNS = ("dataset", "split", "condition", "name", "mos", "score", "status")


@dataclass(frozen=True)
class Result:
    """A line of `results.csv`: one data set under one condition, or the mean of a condition.

    Attributes:
        dataset: catalogue name, or ``mean``.
        split: split and digest; ``-`` for the mean.
        condition: what the scores were read from.
        correlations: the columns after these three.
    """

    dataset: str
    split: str
    condition: str
    correlations: Correlations


def identity(row: Prediction) -> tuple[str, str, str, int]:
    """What tells a row from every other; rows sorted by it lie data set by data set."""
    return row.dataset, row.split, row.condition, row.index


def failed(row: Prediction) -> bool:
    """Whether a row has no score that counts."""
    return row.status != "ok" or not math.isfinite(row.score)


def checked(outputs: object, step: str) -> list[Prediction]:
    """What a method's step returned, if it is what it must be.

    Raises:
        TypeError: if it is not a list of predictions.
    """
    if not isinstance(outputs, list) or not all(isinstance(row, Prediction) for row in outputs):
        raise TypeError(f"{step} must return list[Prediction], not {type(outputs).__name__}")
    return outputs


def grouped(rows: Sequence[Prediction]) -> dict[tuple[str, str, str], list[Prediction]]:
    """Rows of each ``(dataset, split, condition)``, sorted."""
    ordered = sorted(rows, key=identity)
    return {key: list(group) for key, group in groupby(ordered, lambda row: identity(row)[:3])}


def evaluate(rows: Sequence[Prediction], bootstrap: int = 1000, seed: int = 0) -> list[Result]:
    """Correlate the rows of each data set and condition, then average each condition.

    A row whose status is not ``ok`` or whose score is not finite is a failure; `Correlations` says
    how failures count. Rows read from texts are judged once more by whether their text leaks, and
    where images were read too the gap between image and text has lines of its own, ``image -
    <condition>``. Means come last, one for each condition, over its data sets.

    Args:
        rows: all rows of the test, free of repeats.
        bootstrap: resamples for the intervals; 0 for none.
        seed: of the resampling, the same for every data set.
    """
    results: list[Result] = []
    for (dataset, split, condition), group in grouped([*rows, *by_leak(rows)]).items():
        values = correlate(
            [math.nan if failed(row) else row.score for row in group],
            [row.mos for row in group],
            bootstrap,
            seed,
            label=f"{dataset} ({condition})",
        )
        results.append(Result(dataset, split, condition, values))
    results += _gaps(results)
    for condition in sorted({result.condition for result in results}):
        average = mean([result.correlations for result in results if result.condition == condition])
        results.append(Result(MEAN, "-", condition, average))
    return results


def _gaps(results: Sequence[Result]) -> list[Result]:
    """Lines ``image - text`` and so on, for each data set that was read from its images too."""
    from_image = {(r.dataset, r.split): r for r in results if r.condition == IMAGE}
    return [
        Result(
            r.dataset, r.split, f"{IMAGE} - {r.condition}", gap(image.correlations, r.correlations)
        )
        for r in results
        if r.condition.partition(",")[0].partition("-")[0] in ("text", "reasoning")
        and (image := from_image.get((r.dataset, r.split))) is not None
    ]


def labels(results: Sequence[Result]) -> list[str]:
    """A short name for each line, unique among them, for metric tags and file names.

    The data set's name; the split follows where a set was tested on several, the condition where
    it is not ``image``: ``agiqa3k``, ``koniq10k/official``, ``agiqa3k/text``.
    """
    splits: dict[str, set[str]] = {}
    for result in results:
        splits.setdefault(result.dataset, set()).add(result.split)
    return [
        "/".join(
            [result.dataset]
            + [result.split.replace("@", "-")] * (len(splits[result.dataset]) > 1)
            + [result.condition] * (result.condition != "image")
        )
        for result in results
    ]


def number(value: float) -> str:
    """A number as the CSV files write it: six decimals, or ``nan``."""
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def write_csv(path: Path, columns: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    """Write a CSV file whole or not at all; floats have six decimals.

    Raises:
        InputError: if it cannot be written.
    """
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([number(v) if isinstance(v, float) else v for v in line] for line in lines)


def write_results(path: Path, results: Sequence[Result]) -> None:
    """Write `results.csv`, a line for each result, columns `COLUMNS`."""
    lines = [
        (r.dataset, r.split, r.condition, *(getattr(r.correlations, name) for name in METRICS))
        for r in results
    ]
    write_csv(path, COLUMNS, lines)


def read_results(path: Path) -> list[Result]:
    """Read `results.csv` back.

    Raises:
        InputError: if it is not there or has other columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
        if not lines or tuple(lines[0]) != COLUMNS:
            raise ValueError(f"its columns are not {','.join(COLUMNS)}")
        return [_result(*line) for line in lines[1:]]
    except OSError as error:
        raise InputError(
            f"no results at {path} ({error.strerror}): make them with the command `test`."
        ) from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is no results.csv: {error}.") from error


def _result(
    dataset: str, split: str, condition: str, n: str, failures: str, *values: str
) -> Result:
    figures = Correlations(int(n), int(failures), *(float(value) for value in values))
    return Result(dataset, split, condition, figures)


def write_predictions(path: Path, rows: Sequence[Prediction]) -> None:
    """Write `predictions.csv`: `ROW_COLUMNS`, then whatever else the rows carry."""
    more = [f.name for f in fields(rows[0]) if f.name not in ROW_COLUMNS] if rows else []
    columns = (*ROW_COLUMNS, *more)
    write_csv(path, columns, [[getattr(row, name) for name in columns] for row in rows])


def table(results: Sequence[Result], title: str = "Test") -> str:
    """The results as a table to print: intervals beside PLCC and SRCC, means below a rule."""
    from rich.table import Table

    conditions = any(result.condition != "image" for result in results)
    grid = Table(title=title, title_justify="left")
    for name in ("data set", "split", *["condition"] * conditions):
        grid.add_column(name)
    for name in ("n", "failures", "PLCC", "[95%]", "SRCC", "[95%]", "KRCC", "RMSE", "PLCC fitted"):
        grid.add_column(name, justify="right", no_wrap=True)
    for i, r in enumerate(results):
        f = r.correlations
        last = i + 1 < len(results) and r.dataset != MEAN and results[i + 1].dataset == MEAN
        cells = (
            *(r.dataset, r.split, *[r.condition] * conditions, str(f.n), str(f.failures)),
            *(f"{f.plcc:.4f}", f"{f.plcc_low:.3f}..{f.plcc_high:.3f}"),
            *(f"{f.srcc:.4f}", f"{f.srcc_low:.3f}..{f.srcc_high:.3f}"),
            *(f"{f.krcc:.4f}", f"{f.rmse:.4f}", f"{f.plcc_fitted:.4f}"),
        )
        grid.add_row(*cells, end_section=last)
    return rendered(grid)


def pairs(title: str, lines: Mapping[str, str]) -> str:
    """A table of names and values to print."""
    from rich.table import Table

    grid = Table(title=title, title_justify="left", show_header=False)
    for name, value in lines.items():
        grid.add_row(name, value)
    return rendered(grid)


def rendered(grid: Table) -> str:
    """A rich table as plain text, as wide as it needs to be."""
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=1000, markup=False, emoji=False).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
