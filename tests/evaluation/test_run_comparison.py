"""Differences between runs over the same images, against scipy and by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap, pearsonr, spearmanr

from lit_biqa.evaluation.bootstrap import bootstrap_intervals, paired_differences
from lit_biqa.evaluation.compared import in_words
from lit_biqa.evaluation.comparison import Run, differences, gaps, names_of


def test_paired_intervals_are_those_of_scipy() -> None:
    rng = np.random.default_rng(1)
    mos = rng.uniform(1, 5, 120)
    good, poor = mos + rng.normal(0, 0.6, 120), mos + rng.normal(0, 1.4, 120)
    (plcc, *p), (srcc, *s) = paired_differences(good, poor, mos, 4000)
    for value, interval, statistic in ((plcc, p, pearsonr), (srcc, s, spearmanr)):

        def change(x: np.ndarray, o: np.ndarray, y: np.ndarray, of: object = statistic) -> float:
            return float(of(x, y)[0] - of(o, y)[0])  # type: ignore[operator]

        assert value == pytest.approx(change(good, poor, mos), abs=1e-9)
        reference = bootstrap(
            (good, poor, mos),
            change,
            paired=True,
            vectorized=False,
            n_resamples=2000,
            method="percentile",
            random_state=2,
        ).confidence_interval
        assert interval == pytest.approx([reference.low, reference.high], abs=0.02)


def test_a_run_does_not_differ_from_itself() -> None:
    x, mos = np.array([1.0, 2, 3, 5, 4]), np.array([1.0, 2, 3, 4, 5])
    assert paired_differences(x, x, mos) == ((0, 0, 0), (0, 0, 0))
    (plcc, *_), (srcc, *_) = paired_differences(mos, x, mos)
    assert (plcc, srcc) == pytest.approx((1 - 0.9, 1 - 0.9))  # 1 - 6 (1 + 1) / (5 * 24) = 0.9


def test_intervals_of_one_run_are_unchanged() -> None:
    x = np.random.default_rng(0).normal(size=50)
    low, high, *_ = bootstrap_intervals(x, x + 0.1 * x**2)
    assert -1 < low < high <= 1


def run(folder: Path, *rows: tuple[str, str, str]) -> Run:
    (folder / "test").mkdir(parents=True)
    with (folder / "test" / "predictions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        head = "dataset,split,condition,name,mos,score,status,index,weights"
        table.writerow(head.split(","))
        for index, (mos, score, status) in enumerate(rows):
            row = ("own", "all@1", "image", f"{index}.png", mos, score, status, index, "w")
            table.writerow(row)
    return Run(folder, "w", {})


def test_images_that_one_run_did_not_rate_are_left_out_and_counted(tmp_path: Path) -> None:
    one = run(
        tmp_path / "one", ("1", "1", "ok"), ("2", "3", "ok"), ("3", "2", "ok"), ("4", "4", "ok")
    )
    two = run(
        tmp_path / "two", ("1", "1", "ok"), ("2", "2", "ok"), ("3", "3", "ok"), ("4", "", "empty")
    )
    [found] = differences(one, two).values()
    assert (found.n, found.left_out) == (3, 1)
    assert found.srcc.value == pytest.approx(1 - 0.5)  # 1 - 6 (1 + 1) / (3 * 8) = 0.5
    # Half of the exchanges, of images 1 and 2 alone, leave no difference: (1, 3, 3) and (1, 2, 2).
    assert found.srcc.p == pytest.approx(0.5, abs=0.05)


def test_differences_have_an_interval_that_resamples_groups(tmp_path: Path) -> None:
    """Against a plain loop over clusters; files of former versions name the group alone."""
    rng = np.random.default_rng(3)
    mos, groups = rng.uniform(1, 5, 40), [f"g{i % 5}" for i in range(40)]
    scores = [mos + rng.normal(0, size, 40) for size in (1.5, 0.5)]
    folders = []
    for kind, values in zip(("cluster", "group"), scores, strict=True):
        rows = [(f"{m:.6f}", f"{s:.6f}", "ok") for m, s in zip(mos, values, strict=True)]
        file = run(tmp_path / kind, *rows).folder / "test" / "predictions.csv"
        head, *lines = file.read_text().splitlines()
        named = [f"{line},{group}" for line, group in zip(lines, groups, strict=True)]
        file.write_text("\n".join([f"{head},{kind}", *named]))
        folders.append(tmp_path / kind)
    first, second = (Run(folder, "w", {}) for folder in folders)
    # Images are compared in the order of their index as text: 0, 1, 10, 11 ...
    order = sorted(range(40), key=str)
    x, o, y = (np.round(values[order], 6) for values in (scores[1], scores[0], mos))
    members = [[i for i, row in enumerate(order) if row % 5 == g] for g in range(5)]
    loop = []
    for draw in np.random.default_rng(0).integers(5, size=(300, 5)):
        r = [i for g in draw for i in members[g]]
        loop.append(pearsonr(x[r], y[r])[0] - pearsonr(o[r], y[r])[0])
    [found] = differences(first, second, resamples=300).values()
    ends = (found.plcc.cluster_low, found.plcc.cluster_high)
    assert ends == pytest.approx(np.percentile(loop, (2.5, 97.5)))
    text = in_words(found.plcc)
    assert f"] clusters [{ends[0]:+.3f}, {ends[1]:+.3f}] p " in text


def test_runs_are_called_by_the_end_of_their_path(tmp_path: Path) -> None:
    folders = [Path("runs/a"), Path("runs/b"), Path("more/b")]
    runs = [Run(folder, "w", {}) for folder in folders]
    assert names_of(runs) == ["a", "runs/b", "more/b"]
    twice = [Run(Path("runs/a"), weights, {}) for weights in "xy"]
    assert names_of(twice) == ["a @x", "a @y"]


def test_gaps_are_those_of_the_images_that_both_conditions_rated(tmp_path: Path) -> None:
    rated = run(tmp_path / "one", *((str(m), str(m), "ok") for m in (1, 2, 3, 4, 5)))
    file = rated.folder / "test" / "predictions.csv"
    texts = [("1", "2"), ("2", "1"), ("3", "3"), ("4", "4"), ("5", "nan")]
    lines = [
        f"own,all@1,text,{i}.png,{mos},{score},{'ok' if score != 'nan' else 'no rating'},{i},w"
        for i, (mos, score) in enumerate(texts)
    ]
    file.write_text(file.read_text() + "\n".join(lines))
    found = gaps(rated)
    assert list(found) == [("own", "all@1", "image - text")]
    gap = found["own", "all@1", "image - text"]
    assert (gap.n, gap.left_out) == (4, 1)
    assert gap.srcc.value == pytest.approx(1 - 0.8)  # 1 - 6 (1 + 1) / (4 * 15) = 0.8
