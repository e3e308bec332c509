"""Lines, files and the table of a test."""

from __future__ import annotations

import errno
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lit_biqa.evaluation import report, tables
from lit_biqa.evaluation.metrics import Correlations
from lit_biqa.evaluation.report import Result
from lit_biqa.evaluation.store import identity, merged
from lit_biqa.io.files import replacing
from lit_biqa.types import InputError, Prediction


def predictions(
    dataset: str, n: int, condition: str = "image", split: str = "official@0a"
) -> list[Prediction]:
    rng = np.random.default_rng(sum(map(ord, dataset + condition)))
    mos = rng.uniform(1, 5, n)
    score = mos + rng.normal(0, 0.7, n)
    return [
        Prediction(dataset, split, i, f"{i}.png", float(mos[i]), float(score[i]), condition)
        for i in range(n)
    ]


def test_a_line_for_each_set_and_condition_and_a_mean_where_several_sets_were_tested() -> None:
    rows = predictions("spaq", 30) + predictions("csiq", 20) + predictions("csiq", 20, "text")
    results = report.evaluate(rows[::-1], bootstrap=0)
    assert [(r.dataset, r.condition, r.correlations.n) for r in results] == [
        ("csiq", "image", 20),
        ("csiq", "text", 20),
        ("spaq", "image", 30),
        ("csiq", "image - text", 20),
        ("mean", "image", 50),
    ]
    csiq = [(row.score, row.mos) for row in predictions("csiq", 20)]
    assert results[0].correlations.plcc == pytest.approx(
        stats.pearsonr(*zip(*csiq, strict=True))[0]
    )
    both = (results[0].correlations.srcc + results[2].correlations.srcc) / 2
    assert results[4].correlations.srcc == pytest.approx(both)


def test_a_set_that_was_tested_on_several_splits_gives_no_mean() -> None:
    """KADID's list of 2,000 is part of its 10,125 images: their mean would count them twice."""
    rows = predictions("kadid10k", 30, split="all@1") + predictions(
        "kadid10k", 20, split="qalign@2"
    )
    other = predictions("csiq", 20) + predictions("csiq", 20, "text")
    text = predictions("kadid10k", 30, "text", split="all@1")
    results = report.evaluate([*rows, *other, *text], bootstrap=0)
    assert [(r.dataset, r.condition) for r in results if r.is_mean] == [
        ("mean", "image - text"),
        ("mean", "text"),
    ]
    printed = tables.table(results)
    assert "no mean: kadid10k was tested on all@1 and qalign@2, which may hold the same" in printed


def test_a_score_with_a_bad_status_is_a_failure() -> None:
    rows = predictions("csiq", 20)
    whole = report.evaluate(rows[2:], bootstrap=0)[0].correlations
    rows[0] = replace(rows[0], score=math.nan)
    rows[1] = replace(rows[1], score=5.0, status="cannot be read")
    found = report.evaluate(rows, bootstrap=0)[0].correlations
    assert (found.n, found.failures) == (20, 2)
    assert (found.plcc, found.srcc, found.rmse) == (whole.plcc, whole.srcc, whole.rmse)


def test_labels_are_short_and_tell_lines_apart() -> None:
    keys = [
        ("agiqa3k", "random-0@1", "image"),
        ("agiqa3k", "random-0@1", "text"),
        ("koniq10k", "official@2", "image"),
        ("koniq10k", "paper3015@3", "image"),
        ("mean", "-", "image"),
        ("mean", "-", "text"),
    ]
    assert report.labels([Result(*key, Correlations(3, 0)) for key in keys]) == [
        "agiqa3k",
        "agiqa3k/text",
        "koniq10k/official-2",
        "koniq10k/paper3015-3",
        "mean",
        "mean/text",
    ]


def test_results_csv_has_the_agreed_columns_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "test" / "results.csv"
    results = report.evaluate(predictions("csiq", 20), bootstrap=20)
    results.append(Result("livew", "all@9", "image", Correlations(2, 1), "3fa9"))
    report.write_results(path, results)
    lines = path.read_text().splitlines()
    assert lines[0] == (
        "dataset,split,condition,n,failures,plcc,srcc,krcc,rmse,plcc_fitted,"
        "plcc_low,plcc_high,srcc_low,srcc_high,srcc_within,plcc_groups,srcc_groups,"
        "plcc_cluster_low,plcc_cluster_high,srcc_cluster_low,srcc_cluster_high,weights"
    )
    assert lines[1].startswith(f"csiq,official@0a,image,20,0,{results[0].correlations.plcc:.6f},")
    assert lines[2] == "livew,all@9,image,2,1" + ",nan" * 16 + ",3fa9"
    back = report.read_results(path)
    assert [identity(r) for r in back] == [identity(r) for r in results]
    assert back[0].correlations.srcc == pytest.approx(results[0].correlations.srcc, abs=1e-6)
    assert math.isnan(back[1].correlations.plcc)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "run `lit_biqa test`"),
        ("a,b\n1,2\n", "columns"),
        ("", "no results"),
        ("x", "columns"),
    ],
)
def test_no_results_is_an_error_that_names_the_file(
    tmp_path: Path, content: str | None, why: str
) -> None:
    path = tmp_path / "results.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=why) as raised:
        report.read_results(path)
    assert str(path) in str(raised.value)


def test_a_damaged_line_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(",".join(report.COLUMNS) + "\ncsiq,all,image,three,0" + ",0.5" * 16 + ",-\n")
    with pytest.raises(InputError, match="three"):
        report.read_results(path)
    path.write_text(",".join(report.COLUMNS) + "\ncsiq,all\n")
    with pytest.raises(InputError, match=r"no results\.csv"):
        report.read_results(path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("before")

    with pytest.raises(InputError, match="No space left") as raised, replacing(path) as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(path) in str(raised.value)
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]
    assert path.read_text() == "before"


def test_a_full_disk_is_a_clear_error(tmp_path: Path, full_disk: None) -> None:
    with pytest.raises(InputError, match=r"results\.csv cannot be written: No space left"):
        report.write_results(tmp_path / "results.csv", report.evaluate(predictions("csiq", 9), 0))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "test").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        report.write_csv(tmp_path / "test" / "results.csv", ["a"], [[1]])


def test_the_table_says_how_many_images_the_mean_is_over() -> None:
    rows = predictions("csiq", 6) + predictions("spaq", 655)
    text = tables.table(report.evaluate(rows, bootstrap=0))
    assert "every data set counts the same, csiq with 6 images as much as spaq with 655" in text
    (mean,) = [line for line in text.splitlines() if line.startswith("| mean")]
    assert mean.split("|")[3].strip() == "661"
    same = report.evaluate(predictions("csiq", 9) + predictions("spaq", 9), bootstrap=0)
    assert "each has 9 images" in tables.table(same)
    assert "mean" not in tables.table(report.evaluate(predictions("csiq", 20), bootstrap=0))


def test_a_data_set_may_be_called_mean() -> None:
    alone = report.evaluate(predictions("mean", 20), bootstrap=0)
    assert [(r.dataset, r.is_mean, r.is_derived) for r in alone] == [("mean", False, False)]
    assert "counts the same" not in tables.table(alone)
    results = report.evaluate(predictions("mean", 20) + predictions("spaq", 30), bootstrap=0)
    assert [(r.dataset, r.is_mean, r.correlations.n) for r in results] == [
        ("mean", False, 20),
        ("spaq", False, 30),
        ("mean", True, 50),
    ]
    assert "mean with 20 images as much as spaq with 30" in tables.table(results)
    assert report.labels(results) == ["mean/official-0a", "spaq", "mean"]
    added = merged(merged([], alone), results[1:2])
    assert [identity(r) for r in added] == [identity(r) for r in results]
    own = Result("mean", "all@1", "text", Correlations(3, 0))
    spoken = [own, replace(own, split="-")]
    assert report.labels([*results, *spoken])[3:] == ["mean/all-1/text", "mean/text"]


def test_table_shows_every_line_and_condition_only_where_it_tells() -> None:
    rows = predictions("csiq", 20) + predictions("[own] set", 12)
    text = tables.table(report.evaluate(rows, bootstrap=20), "Test")
    for word in ("csiq", "[own] set", "mean", "PLCC", "SRCC", "KRCC", "RMSE", "[95%]", "failures"):
        assert word in text
    assert "condition" not in text
    spoken = report.evaluate(predictions("csiq", 20, "text"), bootstrap=0)
    assert "condition" in tables.table(spoken)
    assert "95%" not in tables.table(spoken)


def test_a_wide_table_is_not_cut() -> None:
    rows = predictions("a" * 150, 20, "from the caption, masked")
    lines = tables.table(report.evaluate(rows, bootstrap=0)).splitlines()
    assert "a" * 150 in "".join(lines)
    assert "…" not in "".join(lines)


@pytest.mark.parametrize("outputs", [None, {"score": 1.0}, [0.5]])
def test_what_a_step_must_return(outputs: object) -> None:
    with pytest.raises(TypeError, match=r"test_step must return list\[Prediction\]"):
        report.checked(outputs, "test_step")


@pytest.mark.filterwarnings("ignore::lit_biqa.evaluation.metrics.UndefinedCorrelationWarning")
def test_a_correlation_that_is_nan_is_explained() -> None:
    unread = [replace(row, status="no rating") for row in predictions("csiq", 5)]
    equal = [replace(row, score=3.0) for row in predictions("spaq", 4, "text")]
    lines = tables.table(report.evaluate([*unread, *equal], bootstrap=0)).splitlines()
    assert [line for line in lines if line.startswith("nan: ")] == [
        "nan: csiq: 0 of 5 images have a score, and a correlation needs 3; the column status of "
        "predictions.csv says why",
        "nan: spaq (text): all 4 scores are equal, or all MOS are",
    ]
    assert "nan: " not in tables.table(report.evaluate(predictions("csiq", 5), bootstrap=0))


def test_the_table_is_markdown_that_can_be_pasted() -> None:
    rows = [replace(row, dataset="a|b") for row in predictions("csiq", 20)]
    results = report.evaluate(rows + predictions("spaq", 30), bootstrap=20)
    lines = tables.table(results, "Test").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| data set"))
    head, rule, *body = lines[start : start + 5]
    assert set(rule) == {"|", "-"} and [line[:7] for line in body] == [
        "| a\\|b ",
        "| spaq ",
        "| mean ",
    ]
    cells = [re.split(r"(?<!\\)\|", line) for line in (head, rule, *body)]
    assert {len(each) for each in cells} == {11}
    spaq = results[1].correlations
    assert cells[3][5].strip() == f"{spaq.plcc:.4f} [{spaq.plcc_low:.3f}, {spaq.plcc_high:.3f}]"
