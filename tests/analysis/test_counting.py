"""Instability and accuracy against counts made by hand."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from lit_biqa.analysis.accuracy import FIVE, THREE, accuracy, write_accuracy
from lit_biqa.analysis.answers import Asked
from lit_biqa.analysis.csv_rows import Who
from lit_biqa.analysis.instability import (
    Spread,
    instability,
    modal,
    unstable,
    write_answers,
    write_instability,
)
from lit_biqa.readouts.base import Verdict


def asked(dataset: str, row: int, mos: float, *sessions: str) -> Asked:
    """Sessions as levels between spaces, ``-`` for none."""
    verdicts = tuple(
        tuple(Verdict(0.0, f"said {level}", level.strip("-")) for level in session.split())
        for session in sessions
    )
    return Asked(Who(dataset, "all", row, f"{row}.png"), mos, verdicts)


# MOS 1.5 is bad, 2.0 poor, 4.0 good.
SAMPLES = [
    asked("first", 0, 2.0, "poor poor good poor", "poor poor poor poor"),
    asked("first", 1, 4.0, "good - good bad", "good excellent good excellent"),
    asked("second", 0, 1.5, "- - - -", "bad bad bad -"),
]


def lines(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_predictions_off_the_modal_level_or_without_a_level_are_unstable() -> None:
    assert unstable(["poor", "poor", "good", "", "poor"]) == 2
    assert unstable(["poor", "good", "poor", "good"]) == 2
    assert unstable(["fair"] * 5) == 0
    assert unstable(["", "", ""]) == 3
    assert [modal(["good", "poor", "", ""]), modal(["", ""])] == ["good", ""]


def test_shares_by_hand() -> None:
    first, second, whole = instability(SAMPLES)
    assert (first.dataset, second.dataset, whole.dataset) == ("first", "second", "all")
    assert (first.samples, second.samples, whole.samples) == (2, 1, 3)
    # first: 1 + 2 of 8, then 0 + 2 of 8
    assert first.unstable.mean == pytest.approx((3 / 8 + 2 / 8) / 2)
    assert first.unstable.sd == pytest.approx(1 / 8 / math.sqrt(2))
    assert first.disagreement == Spread.of([1.0, 0.5])
    # all: 1 + 2 + 4 of 12, then 0 + 2 + 1
    assert whole.unstable == Spread.of([7 / 12, 3 / 12])
    assert whole.disagreement == Spread.of([1.0, 2 / 3])
    assert whole.no_level == Spread.of([5 / 12, 1 / 12])
    assert second.no_level == Spread.of([1.0, 0.25])


def test_one_set_is_not_repeated_and_one_session_has_no_deviation() -> None:
    only = [asked("first", 0, 2.0, "poor poor good poor")]
    (found,) = instability(only)
    assert (found.unstable.mean, str(found.unstable)) == (0.25, "25.00 ± nan%")


def test_accuracy_by_hand() -> None:
    five, three = accuracy(SAMPLES, FIVE)[-1], accuracy(SAMPLES, THREE)[-1]
    # session 1: 3 poor, 2 good, 0 bad; session 2: 4 poor, 2 good, 3 bad
    assert five.right == Spread.of([5 / 12, 9 / 12])
    assert five.confusion[("good", "excellent")] == 2
    assert five.confusion[("bad", "-")] == 5
    assert sum(five.confusion.values()) == 24
    assert five.majority == pytest.approx(1 / 3)
    # without "very": excellent is good, bad is poor, and the most frequent level is poor
    assert three.levels == ("poor", "fair", "good")
    assert three.right == Spread.of([5 / 12, 11 / 12])
    assert three.majority == pytest.approx(2 / 3)
    assert three.confusion[("good", "good")] == 6


def test_files(tmp_path: Path) -> None:
    write_instability(tmp_path, SAMPLES, instability(SAMPLES), 0.2)
    write_answers(tmp_path / "answers.csv", SAMPLES)
    rows = lines(tmp_path / "instability.csv")
    assert rows[0][:4] == ["dataset", "split", "index", "name"]
    assert rows[3] == ["first", "all", "1", "1.png", "1", "good", "2", "good - good bad"]
    assert rows[5][5:] == ["-", "4", "- - - -"]
    summary = lines(tmp_path / "instability_summary.csv")
    assert dict(zip(*summary[::3], strict=True)) == {
        **{"dataset": "all", "samples": "3", "sessions": "2", "predictions": "4"},
        **{"temperature": "0.200000", "unstable_mean": "0.416667", "unstable_sd": "0.235702"},
        **{"disagreement_mean": "0.833333", "disagreement_sd": "0.235702"},
        **{"no_level_mean": "0.250000", "no_level_sd": "0.235702"},
    }
    answers = lines(tmp_path / "answers.csv")
    assert answers[10] == ["first", "all", "1", "1.png", "1", "2", "-", "said -"]

    write_accuracy(tmp_path, SAMPLES, [*accuracy(SAMPLES, FIVE), *accuracy(SAMPLES, THREE)])
    assert lines(tmp_path / "accuracy.csv")[1][4:] == ["2.000000", "poor", "1", "poor"]
    found = lines(tmp_path / "accuracy_summary.csv")
    assert [row[:3] for row in found[1:]] == [
        *(["first", "5", "2"], ["second", "5", "1"], ["all", "5", "3"]),
        *(["first", "3", "2"], ["second", "3", "1"], ["all", "3", "3"]),
    ]
    cells = lines(tmp_path / "confusion.csv")
    assert ["all", "5", "bad", "-", "5"] in cells
    assert ["all", "3", "poor", "fair", "0"] in cells
