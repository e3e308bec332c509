"""The store of a run's figures: lines are added or replaced, and none is lost."""

from __future__ import annotations

import csv
import math
import multiprocessing
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest

from lit_biqa.evaluation import report, store
from lit_biqa.evaluation.metrics import Correlations
from lit_biqa.evaluation.report import Result
from lit_biqa.types import InputError, Prediction, TextPrediction


def line(
    dataset: str, condition: str = "image", weights: str = "aa", srcc: float = 0.5, n: int = 10
) -> Result:
    return Result(dataset, "all@1", condition, Correlations(n, 0, *[srcc] * 16), weights)


def rows(dataset: str, *scores: float, condition: str = "image") -> list[Prediction]:
    return [
        Prediction(dataset, "all@1", i, f"{i}.png", 3.0, score, condition)
        for i, score in enumerate(scores)
    ]


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def keys(results: list[Result]) -> list[tuple[str, str, str]]:
    return [(r.dataset, r.condition, r.weights) for r in results]


def test_a_test_of_another_set_is_added_and_the_mean_follows() -> None:
    found = store.merged([line("spaq", srcc=0.5)], [line("csiq", srcc=0.7)])
    assert keys(found) == [
        ("csiq", "image", "aa"),
        ("spaq", "image", "aa"),
        ("mean", "image", "aa"),
    ]
    assert found[-1].correlations.srcc == pytest.approx(0.6)
    assert found[-1].correlations.n == 20


def test_the_same_test_replaces_its_lines_and_no_others() -> None:
    before = store.merged([], [line("csiq", srcc=0.5), line("spaq", srcc=0.6)])
    after = store.merged(before, [line("csiq", srcc=0.7)])
    assert [r.correlations.srcc for r in after] == pytest.approx([0.7, 0.6, 0.65])
    assert store.merged(after, [line("csiq", srcc=0.7)]) == after


def test_other_weights_stand_beside_with_a_mean_of_their_own() -> None:
    first = store.merged([], [line("csiq", weights="bb"), line("spaq", weights="bb")])
    both = store.merged(first, [line("csiq", weights="aa", srcc=0.9)])
    assert both[:3] == first
    assert keys(both[3:]) == [("csiq", "image", "aa")]
    assert report.labels(both) == ["csiq", "spaq", "mean", "csiq/aa"]


def test_a_condition_that_is_added_gets_its_gap_to_the_image_that_was_tested_before() -> None:
    before = store.merged([], [line("csiq", srcc=0.8)])
    after = store.merged(before, [line("csiq", "text", srcc=0.5)])
    assert keys(after) == [(("csiq"), c, "aa") for c in ("image", "text", "image - text")]
    assert after[2].correlations.srcc == pytest.approx(0.3)
    # The gap follows when the image is tested again.
    again = store.merged(after, [line("csiq", srcc=0.6)])
    assert again[2].correlations.srcc == pytest.approx(0.1)


def test_parts_by_leak_of_a_condition_go_with_it() -> None:
    leaks = [line("csiq", c) for c in ("text", "text, leaking", "text, clean", "text-2, clean")]
    after = store.merged(leaks, [line("csiq", "text")])
    assert keys(after) == [("csiq", c, "aa") for c in ("text", "text-2, clean")]


def test_means_do_not_depend_on_whether_lines_were_measured_or_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(size=6)
    lines = [line(f"set{i}", srcc=float(value)) for i, value in enumerate(values)]
    store.merge_results(tmp_path / "once" / "results.csv", lines)
    for each in reversed(lines):
        store.merge_results(tmp_path / "parts" / "results.csv", [each])
    once, parts = ((tmp_path / name / "results.csv").read_bytes() for name in ("once", "parts"))
    assert once == parts


def test_results_of_before_weights_were_told_apart_are_read_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    old = ["csiq,all@1,image,20,0" + ",0.5" * 9, "mean,-,image,20,0" + ",0.5" * 9]
    path.write_text("\n".join([",".join(report.HEADERS[-1]), *old]) + "\n")
    assert keys(report.read_results(path)) == [("csiq", "image", "-"), ("mean", "image", "-")]
    store.merge_results(path, [line("csiq", weights="aa")])
    assert keys(report.read_results(path)) == [("csiq", "image", "-"), ("csiq", "image", "aa")]


def save(path: Path, predictions: list[Prediction], weights: str = "aa") -> store.Merge:
    fresh = [store.cells_of(row, weights) for row in predictions]
    return store.merge_predictions(path, fresh, store.by_test)


def test_predictions_are_added_or_replaced_set_by_set(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    first = save(path, [*rows("spaq", 1.0, 2.0), *rows("csiq", 3.0)])
    assert first == store.Merge(added=3, replaced=0, kept=0)
    assert save(path, rows("csiq", 4.0, 5.0)) == store.Merge(added=0, replaced=1, kept=2)
    assert save(path, rows("csiq", 2.5), "bb") == store.Merge(added=1, replaced=0, kept=4)
    assert [(r["dataset"], float(r["score"]), r["weights"]) for r in cells(path)] == [
        ("csiq", 4.0, "aa"),
        ("csiq", 5.0, "aa"),
        ("spaq", 1.0, "aa"),
        ("spaq", 2.0, "aa"),
        ("csiq", 2.5, "bb"),
    ]


def test_predictions_of_other_kinds_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    said = 'dull\nsky, "grey"\r' + "x" * 200_000
    spoken = TextPrediction(
        *("csiq", "all@9", 7, 'a, "b".png', 2.0, math.nan, "text", "cut off"),
        level="bad",
        text=said,
        leak=True,
    )
    save(path, [spoken])
    save(path, rows("spaq", 1.25))
    save(path, rows("spaq", 1.5))
    with path.open(newline="") as file:
        assert file.readline() == (
            "dataset,split,condition,name,mos,score,status,index,group,cluster,level,text,leak,spread,"
            "seconds,weights\n"
        )
    path.write_bytes("\ufeff".encode() + path.read_bytes())  # as spreadsheets save it
    text, plain = store.read_predictions(path)
    assert (text["name"], text["text"], text["leak"]) == (spoken.name, said, "True")
    assert (text["mos"], text["score"], text["status"]) == ("2.000000", "nan", "cut off")
    assert (plain["score"], plain["text"], plain["leak"]) == ("1.500000", "", "")


def test_no_rows_leave_a_file_with_its_header(tmp_path: Path) -> None:
    save(tmp_path / "p.csv", [])
    assert (tmp_path / "p.csv").read_text() == ",".join((*report.ROW_COLUMNS, "index", "weights\n"))


def test_predictions_without_weights_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(",".join((*report.ROW_COLUMNS, "index")) + "\ncsiq,all@1,image,a,3,2,ok,0\n")
    save(path, rows("csiq", 4.0))
    assert [(r["score"], r["weights"]) for r in cells(path)] == [("2", "-"), ("4.000000", "aa")]


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "{}csiq,all", "{}a,b,c,d,1,2,ok,x\n", "\0"])
def test_what_cannot_be_added_to_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "predictions.csv"
    text = content.format(",".join((*report.ROW_COLUMNS, "index")) + "\n")
    path.write_text(text)
    with pytest.raises(InputError, match=r"predictions\.csv cannot be read"):
        save(path, rows("csiq", 4.0))
    assert path.read_text() == text


def one_writer(folder: Path, number: int) -> None:
    weights = f"w{number % 2}"
    for i in range(5):
        name = f"set{number}-{i}"
        with store.locked(folder):
            save(folder / "predictions.csv", rows(name, 1.0, 2.0), weights)
            store.merge_results(folder / "results.csv", [line(name, weights=weights)])


def test_writers_at_the_same_time_lose_nothing_of_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=one_writer, args=(tmp_path, number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    names = {f"set{number}-{i}" for number in range(4) for i in range(5)}
    results = report.read_results(tmp_path / "results.csv")
    assert {r.dataset for r in results} == names | {"mean"}
    assert len(cells(tmp_path / "predictions.csv")) == 40
    means = [r.correlations.n for r in results if r.dataset == "mean"]
    assert means == [100, 100]


def test_rounding_changes_no_count() -> None:
    exact = replace(line("csiq"), correlations=Correlations(7, 2, 1 / 3))
    (found,) = store.merged([], [exact])
    assert astuple(found.correlations)[:3] == (7, 2, 0.333333)
