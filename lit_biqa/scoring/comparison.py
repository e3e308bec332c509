"""Comparison of two scored pictures, with the scorer's error in its test."""

from __future__ import annotations

import math
from pathlib import Path

from lit_biqa.evaluation.conditions import IMAGE
from lit_biqa.evaluation.report import read_results
from lit_biqa.scoring.rating import Rating
from lit_biqa.types import InputError


def errors_in_test(run: Path) -> dict[str, float]:
    """Root mean square error, in MOS units, on each data set that a run was tested on.

    If a data set has several splits or weights, the largest error counts.

    Args:
        run: run folder with ``test/results.csv``.

    Returns:
        Errors by data set name; empty if the run has no readable results.
    """
    try:
        results = read_results(run / "test" / "results.csv")
    except InputError:
        return {}
    errors: dict[str, float] = {}
    for result in results:
        error = result.correlations.rmse
        if result.condition == IMAGE and not result.is_derived and math.isfinite(error):
            errors[result.dataset] = max(error, errors.get(result.dataset, 0.0))
    return errors


def compare(one: Rating, other: Rating, errors: dict[str, float]) -> str:
    """One line: which picture is better, by how much, and how that compares with the errors.

    The difference of two scores errs by the square root of 2 times the error of one, if the two
    errors are independent.

    Args:
        one: scored picture.
        other: the other.
        errors: of `errors_in_test`; empty if scores such as these were not tested.

    Example:
        >>> compare(Rating(Path("a.jpg"), 3.1), Rating(Path("b.jpg"), 3.4), {"livew": 0.6})
        "b.jpg is better by 0.30, less than the scorer's error for a difference: 0.85 (livew)."
    """
    worse, better = sorted((one, other), key=lambda rating: rating.score)
    difference = better.score - worse.score
    if round(difference, 2) == 0:
        return f"{one.path} and {other.path} score alike, {one.score:.2f}."
    line = f"{better.path} is better by {difference:.2f}"
    if not errors:
        return f"{line}; the scorer's error for such scores is not measured."
    errors = {dataset: math.sqrt(2) * error for dataset, error in errors.items()}
    size = "about as much as"
    if difference < min(errors.values()):
        size = "less than"
    elif difference > max(errors.values()):
        size = "more than"
    measured = ", ".join(f"{error:.2f} ({dataset})" for dataset, error in errors.items())
    return f"{line}, {size} the scorer's error for a difference: {measured}."
