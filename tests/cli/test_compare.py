"""Runs side by side: which settings differ, and scores only where they may be compared."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lit_biqa.cli import compare
from lit_biqa.evaluation.compared import labelled
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
    assert [row for row in cells if len(row) == 5][2:4] == [
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
        "parameters": "",
        "model.head.tau": "0.07",
        "csiq/plcc": "0.800000",
        "csiq/srcc": "0.700000",
        "livew/plcc": "0.700000",
        "livew/srcc": "0.600000",
        "mean/plcc": "0.750000",
        "mean/srcc": "0.650000",
    }
    assert second["model.head.tau"] == "none"


def test_parameters_are_those_of_the_shipped_weights(tmp_path: Path) -> None:
    """Figure 1 of Reasoning as Representation: a scorer of 4% of a reasoning model's parameters."""
    scorer = run(tmp_path / "rali", 0, "0.07", result("csiq", 0.798))
    reasoning = run(tmp_path / "q_insight", 0, "0.07", result("csiq", 0.806))
    own = run(tmp_path / "predictions", 0, "0.07", result("csiq", 0.5))
    save_file({"tower.a": np.zeros((3, 4)), "head.b": np.zeros(())}, scorer / "scorer.safetensors")
    save_file({"features": np.zeros(1000)}, scorer / "embeddings.safetensors")
    (reasoning / "weights").mkdir()
    for part, rows in (("1-of-2", 300), ("2-of-2", 25)):
        shard = reasoning / "weights" / f"model-{part}.safetensors"
        save_file({part: np.zeros((rows, 1), np.float16)}, shard)
    out, folders = tmp_path / "out.csv", [str(each) for each in (scorer, reasoning, own)]
    assert compare.main([*folders, "--csv", str(out), "--resamples", "0"]) == 0
    with out.open(newline="") as file:
        assert [line["parameters"] for line in csv.DictReader(file)] == ["13", "325", ""]
    (scorer / "scorer.safetensors").write_bytes(b"half of a file")
    assert [each.parameters for each in read_runs(scorer)] == [None]


def test_other_splits_are_other_columns_and_no_mean_spans_them(tmp_path: Path) -> None:
    mean = result("mean", 0.5, "-")
    one = run(tmp_path / "one", 0, "0.07", result("koniq10k", 0.9, "official@1"), mean)
    two = run(tmp_path / "two", 1, "0.07", result("koniq10k", 0.8, "paper3015@2"), mean)
    runs = [*read_runs(one), *read_runs(two)]
    assert list(labelled(runs).values()) == ["koniq10k/official-1", "koniq10k/paper3015-2"]
    own = result("mean", 0.5, "all@9")  # a data set that is called so
    called = [*read_runs(run(tmp_path / "own", 0, "0.07", own)), *read_runs(two)]
    assert list(labelled(called).values()) == ["mean", "koniq10k"]
    mixed = labelled([*read_runs(one), *read_runs(one)])
    assert list(mixed.values()) == ["koniq10k", "mean"]


def test_a_mean_needs_the_same_sets_under_its_own_condition_alone(tmp_path: Path) -> None:
    """RALI reads images; Q-Insight, beside it in table 2, reads texts, too."""
    sets = [result("csiq", 0.8), result("livew", 0.7), result("mean", 0.75, "-")]
    texts = [replace(each, condition="text") for each in sets]
    rali = read_runs(run(tmp_path / "rali", 0, "0.07", *sets))
    reasoning = read_runs(run(tmp_path / "q_insight", 0, "0.07", *sets, *texts))
    tests = ["csiq", "livew", "mean", "csiq/text", "livew/text", "mean/text"]
    assert list(labelled([*rali, *reasoning]).values()) == tests
    fewer = read_runs(run(tmp_path / "fewer", 0, "0.07", sets[0]))
    assert list(labelled([*fewer, *reasoning]).values()) == ["csiq", "livew", *tests[3:]]


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
    drawn = f"written: {tmp_path / 'report.html'}"
    assert captured.err == f"{empty}: no test/results.csv, left out\n{drawn}\n"
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


def with_predictions(folder: Path, mos: list[float], scores: list[float | str]) -> Path:
    """A run tested on ``csiq``; a score that is a word is the reason for a failure."""
    run(folder, 0, "0.07", result("csiq", 0.8))
    head = "dataset,split,condition,name,mos,score,status,index,weights"
    lines = [
        f"csiq,all@1,image,{i}.png,{m},{'nan' if isinstance(s, str) else s},"
        f"{s if isinstance(s, str) else 'ok'},{i},{UNKNOWN}"
        for i, (m, s) in enumerate(zip(mos, scores, strict=True))
    ]
    (folder / "test" / "predictions.csv").write_text("\n".join([head, *lines]))
    return folder


def test_differences_are_printed_with_their_images_and_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mos = [1 + i / 10 for i in range(40)]
    good: list[float | str] = [*mos[:39], "unreadable"]
    poor: list[float | str] = [m + (-1) ** i * 1.5 for i, m in enumerate(mos)]
    one = with_predictions(tmp_path / "one", mos, poor)
    two = with_predictions(tmp_path / "two", mos, good)
    assert compare.main([str(one), str(two), str(one / ".." / "two")]) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if "LCC +" in line or "SRCC +" in line]
    assert len(rows) == 2 and "| two |     39 | PLCC +" in rows[0]  # the same folder stands once
    assert all(row.endswith("p 0.001 |") for row in rows)  # 1 of 1,001, over one data set
    assert "images of csiq left out, since one and two did not both score them: 1" in printed
    assert compare.main([str(one), str(two), "--baseline", str(two)]) == 0
    printed = capsys.readouterr().out
    assert "Difference from two" in printed and "PLCC -" in printed and "SRCC -" in printed
    same = with_predictions(tmp_path / "same", mos, poor)
    assert compare.main([str(one), str(same)]) == 0
    assert capsys.readouterr().out.count("+0.0000 [+0.000, +0.000] p 1.000") == 2
    assert compare.main([str(one), str(two), "--resamples", "0"]) == 0
    assert "Difference" not in capsys.readouterr().out


def test_images_with_another_mos_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = with_predictions(tmp_path / "one", [1, 2, 3, 4], [1, 3, 2, 4])
    two = with_predictions(tmp_path / "two", [1, 2.004, 3.5, 4], [1, 2, 3, 4])
    assert compare.main([str(one), str(two)]) == 0
    told = "images of csiq with another MOS in two than in one, which counts here: 1"
    assert told in " ".join(capsys.readouterr().out.split())


def test_runs_without_a_difference_say_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = with_predictions(tmp_path / "one", [1, 2, 3], [1, 2, 3])
    two = run(tmp_path / "two", 0, "0.07", result("csiq", 0.8))
    assert compare.main([str(one), str(two)]) == 0
    assert "no difference of two from one: no predictions in" in capsys.readouterr().out
    few = with_predictions(tmp_path / "few", [1, 2], [1, 2])
    assert compare.main([str(one), str(few)]) == 0
    assert "fewer than 3 images that both scored" in capsys.readouterr().out
    constant = with_predictions(tmp_path / "constant", [1, 2, 3], [2, 2, 2])
    assert compare.main([str(one), str(constant)]) == 0
    assert capsys.readouterr().out.count("undefined: scores or MOS are constant") == 2


def test_files_beside_runs_are_left_out_and_names_are_no_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = run(tmp_path / "a[red]|b", 0, "0.07", result("csiq", 0.8))
    (odd / "config.yaml").unlink()  # needed for settings alone
    file = tmp_path / "notes.txt"
    file.touch()
    assert compare.main([str(odd), str(file)]) == 0
    captured = capsys.readouterr()
    assert r"a[red]\|b" in captured.out
    drawn = f"written: {tmp_path / 'report.html'}"
    assert captured.err == f"{file}: no test/results.csv, left out\n{drawn}\n"
    assert compare.main([str(odd), "--baseline", str(file)]) == 2
    assert "the baseline, has no test/results.csv" in capsys.readouterr().err
    assert compare.main([str(odd), "--settings"]) == 2
    assert "no settings at" in capsys.readouterr().err


def test_the_report_beside_the_runs_is_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``compare runs/*`` writes ``runs/report.html``, which the next ``runs/*`` names."""
    run(tmp_path / "one", 0, "0.07", result("csiq", 0.8))
    for _ in range(2):
        assert compare.main([*map(str, tmp_path.iterdir())]) == 0
        assert "left out" not in capsys.readouterr().err
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize(("column", "value"), [("mos", "abc"), ("score", "high")])
def test_a_cell_that_is_no_number_is_named(
    column: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [with_predictions(tmp_path / name, [1, 2, 3, 4], [1, 3, 2, 4]) for name in "ab"]
    file = runs[1] / "test" / "predictions.csv"
    header, first, *lines = file.read_text().splitlines()
    cells = first.split(",")
    cells[header.split(",").index(column)] = value
    file.write_text("\n".join([header, ",".join(cells), *lines]) + "\n")
    assert compare.main([*map(str, runs)]) == 2
    assert f"{file}, line 2: score or MOS is no number" in capsys.readouterr().err


def test_a_named_report_that_cannot_be_written_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = run(tmp_path / "one", 0, "0.07", result("csiq", 0.8))
    assert compare.main([str(one), "--report", str(tmp_path)]) == 2
    assert "was not drawn" in capsys.readouterr().err


def test_long_names_of_runs_stay_whole_above_their_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"quickstart_pretrained-20261128-06{minute}" for minute in ("2310", "3946")]
    for name, tau in zip(names, ("0.07", "0.1"), strict=True):
        run(tmp_path / name, 0, tau, result("csiq", 0.8))
    assert compare.main([*(str(tmp_path / name) for name in names), "--settings"]) == 0
    (head,) = (line for line in capsys.readouterr().out.splitlines() if "| setting" in line)
    assert all(name in head for name in names)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_numbers_are_whole_at_any_width(
    width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "WIDTH", width)
    runs = [
        with_predictions(tmp_path / f"tiny_agiqa3k-2026-11-26-{i}", [1, 2, 3, 4], [1, 3, 2, 4 + i])
        for i in range(6)
    ]
    for i, folder in enumerate(runs):
        (folder / "config.yaml").write_text(CONFIG.format(seed=i, tau=f"0.00012345{i + 1}"))
    assert compare.main([*map(str, runs), "--settings"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("0.8000 | 0.7000") == 6
    for i in range(6):
        assert f"0.00012345{i + 1}" in printed
    assert printed.count("SRCC +0.0000 [") == 5
    assert printed.count("tau") < 6  # many runs are rows, not a table each
    assert max(map(len, printed.splitlines())) <= width


def test_a_file_that_is_there_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tmp_path / "one", 0, "0.07", result("csiq", 0.8))
    file = tmp_path / "scores.csv"
    file.write_text("measured")
    assert compare.main([str(folder), "--csv", str(file)]) == 2
    assert "exists and is not replaced" in capsys.readouterr().err
    assert file.read_text() == "measured"


def with_texts(folder: Path, mos: list[float], seen: list[float], said: list[float]) -> Path:
    """A run that rated images and texts of ``csiq``; ``said`` gives the gap its results hold."""
    with_predictions(folder, mos, list(seen))
    file = folder / "test" / "predictions.csv"
    lines = [
        f"csiq,all@1,text,{i}.png,{m},{s},ok,{i},{UNKNOWN}"
        for i, (m, s) in enumerate(zip(mos, said, strict=True))
    ]
    file.write_text("\n".join([file.read_text(), *lines]))
    text = replace(result("csiq", 0.6), condition="text")
    gap = replace(result("csiq", 0.25), condition="image - text")
    write_results(folder / "test" / "results.csv", [result("csiq", 0.8), text, gap])
    return folder


def test_gaps_have_a_table_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mos = [1 + i / 10 for i in range(40)]
    said = [m + (-1) ** i for i, m in enumerate(mos)]
    one = with_texts(tmp_path / "one", mos, mos, said)
    two = run(tmp_path / "two", 0, "0.07", replace(result("csiq", 0.25), condition="image - text"))
    assert compare.main([str(one), str(two)]) == 0
    scores, gap = capsys.readouterr().out.split("Gap between image and text")
    assert "image - text" not in scores
    plcc = 1 - float(np.corrcoef(mos, said)[0, 1])
    rows = [line for line in gap.splitlines() if "LCC " in line]
    assert f"| one |     40 | PLCC {plcc:+.4f} [" in rows[0]
    # No predictions: the gap of its results, over all images and without interval.
    assert "| two |     10 |" in rows[1] and rows[1].rstrip(" |").endswith("PLCC +0.2500")
    assert compare.main([str(one), "--resamples", "0"]) == 0
    assert "PLCC +0.2500" in capsys.readouterr().out


def test_csv_is_one_table_with_a_line_for_each_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mos = [1 + i / 10 for i in range(40)]
    noisy = [m + (-1) ** i for i, m in enumerate(mos)]
    runs = [with_texts(tmp_path / name, mos, noisy, mos) for name in ("a&b", "two")]
    assert compare.main([*map(str, runs), "--format", "csv", "--resamples", "100"]) == 0
    lines = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [line["what"] for line in lines] == ["score"] * 8 + ["gap"] * 4 + ["difference"] * 4
    assert lines[0] == {
        **{"what": "score", "test": "csiq", "run": "a&b", "metric": "plcc", "n": "10"},
        **{"value": "+0.8000", "low": "", "high": "", "p": ""},
    }
    assert {line["p"] for line in lines[-4:]} == {"1.0000"}
    assert float(lines[8]["value"]) == pytest.approx(np.corrcoef(mos, noisy)[0, 1] - 1, abs=1e-4)
    assert compare.main([*map(str, runs), "--format", "csv", "--settings"]) == 2
    assert "--settings prints Markdown alone" in capsys.readouterr().err


def test_latex_holds_names_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(tmp_path / "a&b_1 50%", 0, "0.07", result("csiq", 0.8))
    assert compare.main([str(folder), "--format", "latex"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        r"\begin{tabular}{llrrr}",
        r"\toprule",
        r"test & run & n & PLCC & SRCC \\",
        r"\midrule",
        r"csiq & a\&b\_1 50\% & 10 & 0.8000 & 0.7000 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
