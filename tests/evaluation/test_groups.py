"""Agreement within groups and between them, against pandas and by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest

from lit_biqa.evaluation import report, store, tables
from lit_biqa.evaluation.groups import group_figures
from lit_biqa.types import Prediction, Sample

UNDEFINED = [math.nan, math.nan]


def equal(found: Sequence[float], expected: Sequence[float]) -> bool:
    return list(found) == pytest.approx(list(expected), nan_ok=True)


def predictions(dataset: str = "agiqa3k", groups: int = 6) -> list[Prediction]:
    """Scores of which the groups' offsets explain more than the images themselves."""
    rng = np.random.default_rng(4)
    rows = []
    for i in range(20 * groups):
        group = f"g{i % groups}" if groups else ""
        mos = 1 + (i % groups) * 0.5 + rng.uniform(0, 1.4)
        score = mos + rng.normal(0, 0.5)
        rows.append(Prediction(dataset, "all@1", i, f"{i}.png", mos, score, group=group))
    return rows


def test_figures_equal_those_of_a_pandas_groupby() -> None:
    rows = predictions()
    rows[3] = replace(rows[3], score=math.nan)
    rows[4] = replace(rows[4], status="unreadable")
    found = report.evaluate(rows, bootstrap=0)[0].correlations
    frame = pandas.DataFrame(rows)
    frame = frame[(frame.status == "ok") & frame.score.notna()]
    inside = [g.score.corr(g.mos, method="spearman") for _, g in frame.groupby("group")]
    means = frame.groupby("group")[["score", "mos"]].mean()
    assert found.srcc_within == pytest.approx(np.mean(inside))
    assert found.plcc_groups == pytest.approx(means.score.corr(means.mos))
    assert found.srcc_groups == pytest.approx(means.score.corr(means.mos, method="spearman"))
    assert found.srcc_within < found.srcc < found.srcc_groups


def test_groups_that_are_small_or_of_one_mos_are_left_out() -> None:
    # One exchanged pair of five: 1 - 6 * 2 / (5 * 24) = 0.9, by Spearman's own formula.
    scores, mos = [2.0, 1, 3, 4, 5], [1.0, 2, 3, 4, 5]
    assert equal(group_figures(scores, mos, ["a"] * 5), [0.9, *UNDEFINED])
    small, level = ["b"] * 4, ["c"] * 5
    found = group_figures(
        [*scores, *scores[:4], *scores], [*mos, 4, 3, 2, 1, *[3.0] * 5], ["a"] * 5 + small + level
    )
    # The means of a, b and c: scores 3, 2.5 and 3; MOS 3, 2.5 and 3.
    assert equal(found, [0.9, 1, 1])


def test_a_group_of_equal_scores_counts_as_no_order() -> None:
    """To leave it out would reward a model that gives up within some groups."""
    scores, mos = [1.0, 2, 3, 4, 5, *[4.0] * 5], [1.0, 2, 3, 4, 5] * 2
    assert group_figures(scores, mos, ["a"] * 5 + ["b"] * 5).srcc_within == pytest.approx(0.5)


def test_means_of_two_groups_have_no_correlation() -> None:
    rows = predictions(groups=2)
    figures = report.evaluate(rows, bootstrap=0)[0].correlations
    assert figures.srcc_within > 0.5
    assert equal([figures.plcc_groups, figures.srcc_groups], UNDEFINED)


def test_images_without_a_group_count_in_none() -> None:
    scores, mos = [1.0, 2, 3, 4, 5], [5.0, 4, 3, 2, 1]
    turned = [*mos, *scores]
    assert group_figures(scores * 2, turned, ["a"] * 5 + [""] * 5).srcc_within == pytest.approx(-1)
    assert equal(group_figures(scores, mos, [""] * 5), [math.nan, *UNDEFINED])


def test_the_table_has_the_column_only_where_a_data_set_has_groups() -> None:
    grouped, plain = predictions(), [replace(row, group="") for row in predictions("livew")]
    results = report.evaluate([*grouped, *plain], bootstrap=0)
    lines = [line for line in tables.table(results).splitlines() if line.startswith("|")]
    head, _, first, second, mean = lines
    assert head.split("|")[-2].strip() == "SRCC within"
    within = results[0].correlations.srcc_within
    assert [line.split("|")[-2].strip() for line in (first, second, mean)] == [
        f"{within:.4f}",
        "-",
        "-",
    ]
    assert "within" not in tables.table(report.evaluate(plain, bootstrap=0))


def test_intervals_that_resample_groups_stand_beside_the_others() -> None:
    rows = [replace(row, cluster=row.group) for row in predictions()]
    rows[3] = replace(rows[3], status="unreadable")
    found = report.evaluate(rows, bootstrap=500, seed=2)[0].correlations
    kept = [row for row in rows if row.status == "ok"]
    names = [int(row.group[1:]) for row in kept]
    score, mos = np.array([(row.score, row.mos) for row in kept]).T
    drawn = np.random.default_rng(2).integers(6, size=(500, 6))
    loop = [
        pandas.Series(score[r]).corr(pandas.Series(mos[r]))
        for r in ([i for c in draw for i, name in enumerate(names) if name == c] for draw in drawn)
    ]
    ends = (found.plcc_cluster_low, found.plcc_cluster_high)
    assert ends == pytest.approx(np.percentile(loop, (2.5, 97.5)))
    plain = [replace(row, cluster="") for row in predictions("livew")]
    results = report.evaluate([*rows, *plain], bootstrap=20)
    head, _, first, second, _ = (
        [cell.strip() for cell in line.split("|")]
        for line in tables.table(results).splitlines()
        if line.startswith("|")
    )
    assert head[-3:-1] == ["PLCC clusters [95%]", "SRCC clusters [95%]"]
    figures = results[0].correlations
    assert first[-3] == f"[{figures.plcc_cluster_low:.3f}, {figures.plcc_cluster_high:.3f}]"
    assert second[-3:-1] == ["-", "-"]
    assert "clusters" not in tables.table(report.evaluate(rows, bootstrap=0))


@pytest.mark.parametrize(
    ("split", "cluster"),
    [
        ("prompt-0@1a", "a cat"),
        ("random-0@1a", "glide"),
        ("group-1@1a", "glide"),
        ("all@1", "glide"),
    ],
)
def test_a_cluster_is_a_group_of_the_kind_that_the_split_holds_out(
    split: str, cluster: str
) -> None:
    groups = {"generator": "glide", "prompt": "a cat"}
    assert Sample("agiqa3k", split, 0, "a.png", None, groups=groups).cluster == cluster
    assert Sample("livew", split, 0, "a.png", None).cluster == ""


def test_results_from_before_groups_are_read(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(
        "dataset,split,condition,n,failures,plcc,srcc,krcc,rmse,plcc_fitted,"
        "plcc_low,plcc_high,srcc_low,srcc_high,weights\n"
        "csiq,all@1,image,20,1,0.9,0.8,0.7,0.6,0.5,0.4,0.3,0.2,0.1,3fa9\n"
    )
    (line,) = report.read_results(path)
    assert (line.weights, line.correlations.failures) == ("3fa9", 1)
    assert (line.correlations.plcc, line.correlations.srcc_high) == (0.9, 0.1)
    assert math.isnan(line.correlations.srcc_within)
    fresh = report.evaluate(predictions(), bootstrap=0)
    _, after = store.merge_results(path, fresh)
    assert [r.dataset for r in report.read_results(path)] == [r.dataset for r in after]


def test_predictions_name_the_group(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(
        ",".join((*report.ROW_COLUMNS, "index", "weights\n")) + "csiq,all@1,image,a,3,2,ok,0,aa\n"
    )
    fresh = [store.cells_of(row, "bb") for row in predictions()[:2]]
    store.merge_predictions(path, fresh, store.by_test)
    assert [row["group"] for row in store.read_predictions(path)] == ["", "g0", "g1"]
