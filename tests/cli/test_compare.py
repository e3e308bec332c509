"""Runs side by side: which settings differ, and scores only where they may be compared."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from lit_biqa.cli import compare
from lit_biqa.evaluation.comparison import read_runs
from lit_biqa.evaluation.metrics import Correlations
from lit_biqa.evaluation.report import UNKNOWN, Result, write_results

CONFIG = """
seed_everything: {seed}
model: {{class_path: a.RALI, init_args: {{head: {{tau: {tau}}}, lr: 0.1}}}}
data: {{train: [agiqa3k], batch_size: 8, root: same}}
trainer: {{max_epochs: 3, default_root_dir: /runs/{seed}}}
"""


def result(dataset: str, plcc: float, split: str = "all@1") -> Result:
    return Result(dataset, split, "image", Correlations(10, 0, plcc, plcc - 0.1))


def run(folder: Path, seed: int, tau: str, *results: Result) -> Path:
    (folder / "test").mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG.format(seed=seed, tau=tau))
    write_results(folder / "test" / "results.csv", results)
    return folder


def test_differing_settings_stand_beside_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = (result("csiq", 0.8), result("livew", 0.7), result("mean", 0.75, "-"))
    one = run(tmp_path / "one", 0, "0.07", *sets)
    two = run(tmp_path / "two", 0, "null", *(result("csiq", 0.9), *sets[1:]))
    out = tmp_path / "out.csv"
    assert compare.main([str(one), str(two), "--csv", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "tau" not in printed
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines()]
    assert [row[:5] for row in cells if len(row) == 6][2:4] == [
        ["csiq", "one", "10", "0.8000", "0.7000"],
        ["", "two", "10", "0.9000", "0.8000"],
    ]
    assert compare.main([str(one), str(two), "--settings"]) == 0
    settings = capsys.readouterr().out.partition("setting")[2]
    assert "tau" in settings and "0.07" in settings and "none" in settings
    for same in ("seed", "lr", "root", "max_epochs", "RALI", "head"):
        assert same not in settings
    with out.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {
        "run": str(one),
        "weights": UNKNOWN,
        "model.head.tau": "0.07",
        "csiq/plcc": "0.800000",
        "csiq/srcc": "0.700000",
        "livew/plcc": "0.700000",
        "livew/srcc": "0.600000",
        "mean/plcc": "0.750000",
        "mean/srcc": "0.650000",
    }
    assert second["model.head.tau"] == "none"


def test_other_splits_are_other_columns_and_no_mean_spans_them(tmp_path: Path) -> None:
    mean = result("mean", 0.5, "-")
    one = run(tmp_path / "one", 0, "0.07", result("koniq10k", 0.9, "official@1"), mean)
    two = run(tmp_path / "two", 1, "0.07", result("koniq10k", 0.8, "paper3015@2"), mean)
    runs = [*read_runs(one), *read_runs(two)]
    assert list(compare.labelled(runs).values()) == ["koniq10k/official-1", "koniq10k/paper3015-2"]
    own = result("mean", 0.5, "all@9")  # a data set that is called so
    called = [*read_runs(run(tmp_path / "own", 0, "0.07", own)), *read_runs(two)]
    assert list(compare.labelled(called).values()) == ["mean", "koniq10k"]
    mixed = compare.labelled([*read_runs(one), *read_runs(one)])
    assert list(mixed.values()) == ["koniq10k", "mean"]


def test_each_of_several_weights_of_a_run_has_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, last = (replace(result("csiq", plcc), weights=w) for plcc, w in ((0.8, "b"), (0.7, "l")))
    one = run(tmp_path / "one", 0, "0.07", best, last)
    two = run(tmp_path / "two", 0, "0.08", replace(best, weights="c"))
    assert compare.main([str(one), str(two), "--csv", str(tmp_path / "out.csv")]) == 0
    printed = capsys.readouterr().out
    assert "one @b" in printed and "one @l" in printed and "| two " in printed
    with (tmp_path / "out.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["weights"], line["csiq/plcc"]) for line in lines] == [
        ("b", "0.800000"),
        ("l", "0.700000"),
        ("c", "0.800000"),
    ]


def test_names_are_as_short_as_keeps_them_apart() -> None:
    names = ["model.optimizer.lr", "model.head.lr", "data.loader.batch_size", "lr"]
    assert compare.shortened(names) == ["optimizer.lr", "head.lr", "batch_size", "lr"]


def test_a_folder_without_results_is_left_out_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tested = run(tmp_path / "tested", 0, "0.07", result("csiq", 0.8))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert compare.main([str(tested), str(empty)]) == 0
    captured = capsys.readouterr()
    assert captured.err == f"{empty}: no test/results.csv, left out\n"
    assert "csiq" in captured.out
    assert compare.main([str(empty)]) == 2
    assert "none of these folders holds results" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_told_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "tested", 0, "0.07", result("csiq", 0.8))
    assert compare.main([str(tmp_path / "testd")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: there is no run folder") and "tested" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("width", [60, 80, 120])
def test_numbers_are_whole_at_any_width(
    width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "WIDTH", width)
    folders = [run(tmp_path / f"run{i}", i, "0.07", result("csiq", 0.8 + i / 100)) for i in (0, 1)]
    assert compare.main([*map(str, folders), "--settings"]) == 0
    printed = capsys.readouterr().out
    assert "0.8000" in printed and "0.7100" in printed
    assert max(map(len, printed.splitlines())) <= width
