"""Two pictures compared, and the errors that stand beside."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lit_biqa.evaluation.metrics import Correlations
from lit_biqa.evaluation.report import Result, write_results
from lit_biqa.scoring.comparison import compare, errors_in_test
from lit_biqa.scoring.rating import Rating

A, B = Path("a.jpg"), Path("b.jpg")


def result(dataset: str, rmse: float, condition: str = "image", split: str = "all@1") -> Result:
    return Result(dataset, split, condition, Correlations(10, 0, 0.8, 0.7, rmse=rmse))


def test_errors_are_those_of_data_sets_read_from_images(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    lines = [
        *(result("livew", 0.6), result("livew", 0.7, split="random-0@2"), result("csiq", 0.4)),
        *(result("csiq", 0.9, "text"), result("spaq", math.nan), result("mean", 0.1, split="-")),
    ]
    write_results(tmp_path / "test" / "results.csv", lines)
    assert errors_in_test(tmp_path) == {"livew": 0.7, "csiq": 0.4}
    (tmp_path / "test" / "results.csv").write_text("broken")
    assert errors_in_test(tmp_path) == {}
    assert errors_in_test(tmp_path / "absent") == {}


@pytest.mark.parametrize(
    ("one", "other", "errors", "line"),
    [
        (3.1, 3.4, {"x": 0.5}, "b.jpg is better by 0.30, less than the scorer's error"),
        (4.9, 3.4, {"x": 0.5}, "a.jpg is better by 1.50, more than the scorer's error"),
        (3.0, 3.6, {"x": 0.4, "y": 0.8}, "b.jpg is better by 0.60, about as much as the scorer's"),
        (3.0, 3.6, {"x": 0.5, "y": 0.8}, "b.jpg is better by 0.60, less than the scorer's"),
        (3.0, 3.6, {}, "b.jpg is better by 0.60; the scorer's error for such scores is not"),
        (3.001, 3.004, {"x": 0.5}, "a.jpg and b.jpg score alike, 3.00."),
    ],
)
def test_the_better_one_is_named_with_the_difference(
    one: float, other: float, errors: dict[str, float], line: str
) -> None:
    assert compare(Rating(A, one), Rating(B, other), errors).startswith(line)
    swapped = compare(Rating(B, other), Rating(A, one), errors)
    assert swapped.startswith(line) or "alike" in line


def test_every_data_set_of_the_test_is_named() -> None:
    line = compare(Rating(A, 1.0), Rating(B, 2.0), {"livew": 0.61, "csiq": 0.404})
    assert line.endswith("difference: 0.86 (livew), 0.57 (csiq).")
