"""Values of papers beside measured ones: published predictions reproduce their printed cells."""

from __future__ import annotations

import csv
import math
import re
import shlex
from pathlib import Path

import pytest
from conftest import REPOSITORY

from lit_biqa import paradigms
from lit_biqa.__main__ import main
from lit_biqa.cli import compare
from lit_biqa.cli.config_files import merge_files
from lit_biqa.cli.printed_values import (
    Comparison,
    Printed,
    compared,
    printed_grid,
    read_printed,
)
from lit_biqa.data.catalog import NAMES
from lit_biqa.evaluation.comparison import Run, read_runs
from lit_biqa.evaluation.metrics import Correlations
from lit_biqa.evaluation.report import Result, write_results
from lit_biqa.readouts.ratings import Rated
from lit_biqa.types import InputError

pytestmark = [pytest.mark.newest, pytest.mark.usefixtures("working_folder")]

FILES = sorted((REPOSITORY / "configs" / "reproduce").glob("*/expected.csv"))
TEXTUAL = next(file for file in FILES if file.parent.name == "pure_textual_reasoning")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.parent.name))
def test_every_line_names_what_exists(file: Path) -> None:
    values = read_printed(file)
    made = {path.stem for path in file.parent.glob("*.yaml")}
    named = {value.recipe for value in values} - {""}
    assert named <= made
    # Others are steps on the way to a row: weights to start from, and files to enter.
    steps = {"predictions", "q_insight_spaq", "q_insight_kadid", "q_insight_pipal"}
    assert made - named <= steps
    sets = {name for value in values for name in value.dataset.split(" and ")}
    assert sets <= {*NAMES, "mean", "conversations", ""}
    single = [v for v in values if v.dataset != "mean"]
    keys = [(v.table, v.row, v.recipe, v.dataset, v.condition, v.metric) for v in single]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("recipe", sorted({v.recipe for v in read_printed(TEXTUAL)} - {""}))
def test_the_rows_recipe_reads_the_texts_of_its_cells(recipe: str) -> None:
    values = [value for value in read_printed(TEXTUAL) if value.recipe == recipe]
    named = {name for value in values for name in value.condition.split(" and ")}
    settings = merge_files([TEXTUAL.with_name(f"{recipe}.yaml")], [])["model"]["init_args"]
    paradigm = settings.get("paradigm", {}).get("class_path", "Score").rpartition(".")[2]
    readouts = [each for each in settings.get("readouts", []) if "Rated" in each["class_path"]]
    made = (
        Rated(**{"paradigm": getattr(paradigms, paradigm)()} | each["init_args"])
        for each in readouts
    )
    read = {name for readout in made for name in readout.conditions}
    assert named <= {"image", "train", *read}


PAPERS = {
    "pure_textual_reasoning": "pure_textual_reasoning",
    "reasoning_as_representation": "reasoning_as_representation_rali_ract",
    "building_reasonable_inference": "building_reasonable_inference",
    "guiding_perception_reasoning": "guiding_perception_reasoning_abstract",
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.parent.name))
def test_every_value_stands_in_the_paper(file: Path, shared: Path) -> None:
    text = (shared / "papers" / f"{PAPERS[file.parent.name]}.txt").read_text()
    numbers = set(re.findall(r"-?\d*\.\d+", text))
    assert {value.printed for value in read_printed(file)} <= numbers


TWO_QUESTIONS = "masked-text and text"
# Means that a paper prints apart from its own cells: what it prints, and what the cells give.
SLIPS = {
    ("I", "DBCNN", "image", "plcc"): ("0.714", 0.699),
    ("I", "DBCNN", "image", "srcc"): ("0.689", 0.686),
    ("I", "Q-Insight-Score", "image", "plcc"): ("0.813", 0.816),
    ("I", "Q-Insight-Score", "image", "srcc"): ("0.789", 0.790),
    ("I", "Ours (Autoencoder-like)", TWO_QUESTIONS, "srcc"): ("0.725", 0.728),
    ("II", "Autoencoder-like (alpha = 0, beta = 1)", TWO_QUESTIONS, "srcc"): ("0.725", 0.728),
    ("II", "Autoencoder-like (alpha = 1, beta = 0)", "image", "srcc"): ("0.787", 0.789),
    ("II", "Autoencoder-like (alpha = 1, beta = 1)", "image", "plcc"): ("0.799", 0.807),
    ("2", "Q-Align", "image", "plcc_fitted"): ("0.705", 0.743),
    ("A.3", "scores from KonIQ", "image", "plcc"): ("0.858", 0.855),
    ("A.3", "scores from KonIQ", "image", "srcc"): ("0.816", 0.829),
}


def test_cells_give_the_means_that_the_papers_print_but_for_their_slips() -> None:
    """A wrong digit in a cell would move the mean of its row."""
    slips: dict[tuple[str, ...], tuple[str, float]] = {}
    rows: dict[tuple[str, ...], list[float]] = {}
    checked = 0
    for file, value in [(path, value) for path in FILES for value in read_printed(path)]:
        row = (str(file), value.table, value.row, value.metric)
        if value.dataset != "mean":
            rows.setdefault((*row, value.condition), []).append(float(value.printed))
            continue
        named = value.condition.split(" and ")
        if cells := [cell for name in named for cell in rows.pop((*row, name), [])]:
            mean, checked = sum(cells) / len(cells), checked + 1
            if abs(mean - float(value.printed)) > 0.0011:
                slips[value.table, value.row, value.condition, value.metric] = value.printed, mean
    assert {key: printed for key, (printed, _) in slips.items()} == {
        key: printed for key, (printed, _) in SLIPS.items()
    }
    assert [slips[key][1] for key in SLIPS] == pytest.approx(
        [mean for _, mean in SLIPS.values()], abs=6e-4
    )
    assert checked == 140


def test_lines_of_two_metrics_stand_exchanged_in_a_table() -> None:
    """Table 2 of one paper against table I of the other, which share six sets."""
    other = next(file for file in FILES if file.parent.name == "reasoning_as_representation")
    one, two = (
        {
            (v.row, v.metric, v.dataset): v.printed
            for v in read_printed(file)
            if v.table in ("I", "2")
        }
        for file in (TEXTUAL, other)
    )
    for dataset in ("koniq10k", "spaq", "kadid10k", "livew", "agiqa3k", "csiq"):
        assert two["ManIQA", "plcc", dataset] == one["CLIP-IQA+", "srcc", dataset]
        assert two["ManIQA", "srcc", dataset] == one["MANIQA", "plcc", dataset]
        assert two["CLIP-IQA+", "srcc", dataset] == one["MANIQA", "srcc", dataset]
        assert two["CLIP-IQA+", "plcc", dataset] == one["CLIP-IQA+", "plcc", dataset]
        assert two["MUSIQ", "plcc", dataset] == one["MUSIQ", "plcc", dataset]


# Published predictions ---------------------------------------------------------------------------


def published(shared: Path, model: str, run: str) -> list[tuple[str, ...]]:
    """Predictions of one published model as a run, as lines of what is printed and measured."""
    recipe = "test --config reproduce/pure_textual_reasoning/predictions"
    for dataset, text in (("koniq10k/paper3015-512x384", "caption"), ("agiqa3k/all", "reasoning")):
        file = shared / "data" / "predictions" / f"{model}_{dataset[:5]}.csv"
        if file.is_file():
            columns = f"'{{image: overall_score, text: {text}_score}}'"
            command = f"{recipe} --run {run} --model.init_args.path {file} --data.test [{dataset}]"
            command += f" --model.init_args.columns {columns} --data.root {shared / 'data'}"
            assert main(shlex.split(f"{command} --data.loader.num_workers 0")) == 0
    found = compared(read_printed(TEXTUAL), read_runs(Path(run)))
    return [row for row in printed_grid(found, whole=True).rows if row[6] != "not measured"]


def test_published_predictions_reproduce_their_cells(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Self-Consistency on KonIQ and AGIQA-3K: each cell of both tables to the printed digits."""
    cells = published(shared, "v13", "runs/self_consistency")
    assert len(cells) == 16  # tables I and II, two sets, two conditions, two metrics
    assert {cell[-1] for cell in cells} == {"yes"}
    capsys.readouterr()
    assert compare.main(["runs/self_consistency", "--expected", str(TEXTUAL)]) == 0
    printed = capsys.readouterr().out
    assert "16 of 528 printed values were measured, 16 of them to the printed digits" in printed
    assert "(autoencoder_a1_b0)" in printed and "(c2score)" in printed
    file = Path("expected.csv")
    file.write_text(TEXTUAL.read_text().replace(",c2score,", ",,"))
    assert compare.main(["runs/self_consistency", "--expected", str(file)]) == 0
    assert "(no recipe makes it)" in capsys.readouterr().out


def test_published_baseline_is_table_two_and_not_the_reported_row(shared: Path) -> None:
    """Table I takes the baseline's image row from its authors, table II reproduces it."""
    cells = published(shared, "v11", "runs/q_insight_score")
    apart = [cell for cell in cells if cell[-1] == "no"]
    assert len(cells) == 16
    assert {(cell[0], cell[3]) for cell in apart} == {("I", "image")}
    assert {cell[5] for cell in apart} == {"0.918", "0.895", "0.816", "0.766"}


def test_the_autoencoders_generic_scores_are_not_set_against_another_question(
    shared: Path,
) -> None:
    """The file holds the generic question's scores; KonIQ's cells are of the "some score" one."""
    cells = published(shared, "v14", "runs/autoencoder")
    assert len(cells) == 4  # tables I and II, two metrics
    assert {(cell[3], cell[-1]) for cell in cells} == {("image", "yes")}


def test_predictions_of_others_are_runs_to_compare(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model, name in (("v11", "q_insight_score"), ("v13", "self_consistency")):
        published(shared, model, f"runs/{name}")
    capsys.readouterr()
    names = ["runs/q_insight_score", "runs/self_consistency"]
    assert compare.main([*names, "--resamples", "100", "--format", "csv"]) == 0
    lines = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    gaps = [line for line in lines if line["what"] == "gap" and line["metric"] == "plcc"]
    assert {line["run"].split(" ")[0] for line in gaps} == {"q_insight_score", "self_consistency"}


# Made-up runs ------------------------------------------------------------------------------------


def value(dataset: str, printed: str, metric: str = "plcc", **more: str) -> Printed:
    named = {"table": "1", "row": "a", "recipe": "one", "split": "all", "condition": "image"} | more
    return Printed(**named, dataset=dataset, metric=metric, printed=printed, protocol="")


def run(folder: Path, *results: Result) -> list[Run]:
    (folder / "test").mkdir(parents=True)
    write_results(folder / "test" / "results.csv", results)
    return read_runs(folder)


def result(dataset: str, plcc: float, split: str = "all@1", weights: str = "w") -> Result:
    return Result(dataset, split, "image", Correlations(9, 0, plcc, plcc), weights)


def test_a_mean_is_over_the_sets_above_it(tmp_path: Path) -> None:
    runs = run(tmp_path / "one", result("csiq", 0.8), result("spaq", 0.6), result("livew", 0.5))
    sets = [value("csiq", "0.8"), value("spaq", "0.6"), value("mean", "0.70")]
    found = compared([*sets, value("livew", "0.4"), value("mean", "0.5")], runs)
    assert [c.measured for c in found] == pytest.approx([0.8, 0.6, 0.7, 0.5, 0.5])
    assert [c.agrees for c in found] == [True, True, True, False, True]
    absent = compared([value("csiq", "0.8"), value("tid2013", "0.1"), value("mean", "0.7")], runs)
    assert [math.isnan(c.measured) for c in absent] == [False, True, True]


def test_a_mean_joins_two_conditions_of_a_row(tmp_path: Path) -> None:
    """Table II, Autoencoder (alpha = 1, beta = 0): KonIQ of one question, others of another."""
    row = "Autoencoder-like (alpha = 1, beta = 0)"
    cells = [
        each
        for each in read_printed(TEXTUAL)
        if (each.row, each.metric) == (row, "plcc") and each.condition != "image"
    ]
    *sets, mean = cells
    assert [each.condition for each in sets] == ["masked-text", *["text"] * 5]
    results = [
        Result(v.dataset, f"{v.split}@1", v.condition, Correlations(9, 0, float(v.printed), 0), "w")
        for v in sets
    ]
    found = compared(cells, run(tmp_path / mean.recipe, *results))
    assert [each.agrees for each in found] == [True] * 7
    generic = Result("koniq10k", "paper3015-512x384@1", "text", Correlations(9, 0, 0.5, 0), "w")
    found = compared(cells, run(tmp_path / "b" / mean.recipe, generic, *results[1:]))
    assert math.isnan(found[0].measured) and math.isnan(found[-1].measured)


def test_another_split_and_another_recipe_measure_nothing(tmp_path: Path) -> None:
    runs = run(tmp_path / "one", result("csiq", 0.8, "all-limit-50@1"))
    found = compared([value("csiq", "0.8"), value("csiq", "0.8", recipe="two")], runs)
    assert all(math.isnan(c.measured) for c in found)


def test_a_mean_over_a_protocol(tmp_path: Path) -> None:
    sets = ("koniq10k/paper3015-512x384", "spaq/all", "kadid10k/all", "livew/all1169")
    named = [spec.split("/") for spec in (*sets, "agiqa3k/all", "csiq/all")]
    lines = [result(name, 0.1 * i, f"{split}@1") for i, (name, split) in enumerate(named)]
    mean = value("mean", "0.25", split="protocol/pure_textual_reasoning")
    (found,) = compared([mean], run(tmp_path / "one", *lines))
    assert found.measured == pytest.approx(0.25)


def test_several_weights_of_one_test_are_refused(tmp_path: Path) -> None:
    runs = run(tmp_path / "one", result("csiq", 0.8), result("csiq", 0.7, weights="v"))
    with pytest.raises(InputError, match="tested on csiq/all with several weights"):
        compared([value("csiq", "0.8")], runs)


def test_costs_are_found_beside_results(tmp_path: Path) -> None:
    runs = run(tmp_path / "one", result("csiq", 0.8))
    folder = tmp_path / "one"
    (folder / "costs.csv").write_text("what,hours_per_epoch\ntrain,2.52\n")
    costs = 'what,seconds_per_image,datasets\nimage,8,"csiq/all@1, spaq/all@1"\n'
    costs += "image,0.25,csiq/all@1\nimage,9,spaq/all@1\n"
    (folder / "test" / "costs.csv").write_text(costs)
    hours = value("koniq10k", "2.5", "hours_per_epoch", condition="train")
    seconds = [value(name, "0.3", "seconds_per_image") for name in ("csiq", "livew", "")]
    found = compared([hours, *seconds], runs)
    assert [c.measured for c in found] == pytest.approx([2.52, 0.25, math.nan, 8], nan_ok=True)
    assert [c.agrees for c in found] == [True, True, False, False]


INFERENCE, GUIDING = FILES[:2]


def study(run: Path, folder: str, kind: str, **shares: float) -> None:
    """A study's summary as `lit_biqa analyse` writes it, with the columns that count."""
    out = run / "analysis" / folder
    out.mkdir(parents=True, exist_ok=True)
    if kind == "accuracy":
        lines = [f"{name},{levels},{share}" for levels in (5, 3) for name, share in shares.items()]
        text = "\n".join(["dataset,levels,mean", *lines])
    else:
        text = "\n".join(["dataset,unstable_mean", *(f"{n},{s}" for n, s in shares.items())])
    (out / f"{kind}_summary.csv").write_text(f"{text}\n")


def test_a_study_counts_for_the_cell_of_its_data_sets(tmp_path: Path) -> None:
    """Table 1: a study of LIVE and CSIQ has a line over both, which is not SPAQ and KonIQ."""
    folder = tmp_path / "two_stage"
    runs = run(folder, result("csiq", 0.5))
    cells = [
        v for v in read_printed(INFERENCE) if v.recipe == "two_stage" and "percent" in v.metric
    ]
    assert [cell.dataset for cell in cells] == [
        "spaq and koniq10k",
        "liver2",
        "csiq",
        "conversations",
    ]
    study(folder, "a", "instability", liver2=0.0409, csiq=0.0608, all=0.1239)
    assert all(math.isnan(found.measured) for found in compared(cells, runs))
    study(folder, "b", "instability", koniq10k=0.1, spaq=0.2, all=0.1239)
    study(folder, "c", "instability", liver2=0.0409)
    study(folder, "d", "instability", csiq=0.0608)
    study(folder, "c", "accuracy", conversations=0.612)
    found = compared(cells, runs)
    assert [c.measured for c in found] == pytest.approx([12.39, 4.09, 6.08, 61.2])
    assert all(each.agrees for each in found)
    study(folder, "e", "instability", csiq=0.1)
    with pytest.raises(InputError, match="several studies of csiq in analysis/"):
        compared(cells, runs)


def test_words_in_common_are_of_all_images_with_references(tmp_path: Path) -> None:
    """The abstract's ROUGE-1, over the data sets whose images are annotated."""
    columns = "dataset,split,condition,n,precision,recall,f"
    columns += ",shuffled_precision,shuffled_recall,shuffled_f,weights"
    lines = ["koniq10k,a@1,image,900,.1,.2,0.520,0,0,0,w", "spaq,a@1,image,100,.1,.2,0.440,0,0,0,w"]
    lines += ["koniq10k,a@1,own-image,900,.1,.2,.9,0,0,0,w"]
    runs = run(tmp_path / "human_aligned", result("koniq10k", 0.9))
    file = tmp_path / "human_aligned" / "test" / "rouge.csv"
    file.write_text("\n".join([columns, *lines]) + "\n")
    cells = read_printed(GUIDING)
    found = compared(cells, runs)
    assert [(c.value.printed, c.agrees) for c in found] == [("0.512", True), ("0.443", False)]
    assert found[0].measured == pytest.approx(0.512) and math.isnan(found[1].measured)


def test_printed_digits_decide() -> None:
    pairs = [("0.80", 0.8049, True), ("0.80", 0.8051, False), ("0.805", 0.8055, True)]
    for printed, found, agrees in pairs:
        assert Comparison(value("csiq", printed), found).agrees is agrees


def test_a_run_that_is_no_row_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "mine", result("csiq", 0.8))
    assert compare.main([str(tmp_path / "mine"), "--expected", str(TEXTUAL)]) == 2
    assert "called as the row's recipe: autoencoder, " in capsys.readouterr().err
    assert compare.main([str(tmp_path / "mine"), "--expected", "none.csv"]) == 2
    assert "no such file of printed values" in capsys.readouterr().err
