"""Runs side by side: which settings differ, and scores only where they may be compared."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from lit_biqa.cli import compare
from lit_biqa.evaluation.metrics import Correlations
from lit_biqa.evaluation.report import Result, write_results

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
    assert "tau" in printed and "0.07" in printed and "none" in printed
    assert "0.8000 / 0.7000" in printed and "0.9000 / 0.8000" in printed
    for same in ("seed", "lr", "root", "max_epochs", "RALI", "head"):
        assert same not in printed.partition("┡")[0]
    with out.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {
        "run": str(one),
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
    text = compare.table([*compare.read(one), *compare.read(two)])
    assert "koniq10k/official-1" in text and "koniq10k/paper3015-2" in text
    assert "mean" not in text
    assert "seed_everything" in text
    own = result("mean", 0.5, "all@9")  # a data set that is called so
    called = [*compare.read(run(tmp_path / "own", 0, "0.07", own)), *compare.read(two)]
    assert list(compare.columns(called).values()) == ["mean", "koniq10k"]
    mixed = compare.columns([*compare.read(one), *compare.read(one)])
    assert list(mixed.values()) == ["koniq10k", "mean"]


def test_each_of_several_weights_of_a_run_has_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, last = (replace(result("csiq", plcc), weights=w) for plcc, w in ((0.8, "b"), (0.7, "l")))
    one = run(tmp_path / "one", 0, "0.07", best, last)
    two = run(tmp_path / "two", 0, "0.08", replace(best, weights="c"))
    assert compare.main([str(one), str(two), "--csv", str(tmp_path / "out.csv")]) == 0
    printed = capsys.readouterr().out
    assert "weights" in printed and "0.8000 / 0.7000" in printed and "0.7000 / 0.6000" in printed
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


@pytest.mark.parametrize("missing", ["", "config.yaml", "test/results.csv"])
def test_a_folder_that_is_no_tested_run_is_an_error(
    tmp_path: Path, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "nowhere"
    if missing:
        run(folder, 0, "0.07", result("csiq", 0.8))
        (folder / missing).unlink()
    assert compare.main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and str(folder) in error
    assert error.count("\n") == 1
