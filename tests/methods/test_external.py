"""Predictions from a file: joined by name, never a default score, published figures reproduced."""

from __future__ import annotations

import csv
import json
import math
import shlex
import shutil
from pathlib import Path

import pytest
from scipy.stats import pearsonr

from lit_biqa.__main__ import main
from lit_biqa.methods.predictions_file import Predictions, read_score
from lit_biqa.text.parsing import read
from lit_biqa.types import InputError

pytestmark = pytest.mark.newest

MOS = {f"{i}.png": 1 + i / 2 for i in range(8)}
TEST = "test --model Predictions --report.bootstrap 0 --run out "


@pytest.fixture(autouse=True)
def folder(working_folder: Path) -> Path:
    """A working directory with labels of images that nobody has."""
    labels = ["image,mos", *(f"{name},{mos}" for name, mos in MOS.items())]
    Path("own.csv").write_text("\n".join(labels))
    return working_folder


def write(name: str, *lines: str) -> str:
    Path(name).write_text("\n".join(lines))
    return name


def run(command: str) -> int:
    return main(shlex.split(f"{TEST} --data.loader.num_workers 0 {command}"))


def rows(name: str) -> list[dict[str, str]]:
    with Path("out/test", name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_condition_is_a_row_and_what_is_missing_a_failure() -> None:
    scores = [f"some/where/{name},{6 - mos},{mos}" for name, mos in MOS.items()]
    scores[2:5] = ["some/where/2.png,four,2", "some/where/3.png,,inf", "other.png,4,4"]
    path = write("scores.csv", "file,seen,said", *scores)
    columns = "--model.image file --model.columns '{image: seen, text: said}' --model.coverage 0.8"
    assert run(f"--model.path {path} {columns} --data.test [own.csv]") == 0
    found = {(row["condition"], row["name"]): row for row in rows("predictions.csv")}
    assert len(found) == 16
    expected = {
        ("image", "1.png"): ("4.500000", "ok"),
        ("text", "1.png"): ("1.500000", "ok"),
        ("image", "2.png"): ("nan", "not a number: four"),
        ("text", "2.png"): ("2.000000", "ok"),
        ("image", "3.png"): ("nan", "no score"),
        ("text", "3.png"): ("nan", "not a number: inf"),
        ("image", "4.png"): ("nan", "no prediction"),
        ("text", "4.png"): ("nan", "no prediction"),
    }
    assert {key: (found[key]["score"], found[key]["status"]) for key in expected} == expected
    figures = {r["condition"]: r for r in rows("results.csv") if r["dataset"] == "own"}
    assert {c: (r["n"], r["failures"]) for c, r in figures.items()} == {
        "image": ("8", "3"),
        "text": ("8", "2"),
        "image - text": ("8", "2"),
    }
    assert float(figures["image"]["srcc"]) == pytest.approx(-1)
    assert float(figures["text"]["srcc"]) == pytest.approx(1)


@pytest.mark.parametrize("lines", [False, True])
def test_json(lines: bool) -> None:
    records = [{"image": name, "score": mos} for name, mos in MOS.items()]
    del records[0]["score"]
    text = map(json.dumps, records) if lines else [json.dumps(records)]
    assert run(f"--model.path {write('s.json', *text)} --data.test [own.csv]") == 0
    (result,) = rows("results.csv")
    assert result["failures"] == "1"
    assert float(result["plcc"]) == pytest.approx(1)


def test_two_data_sets_with_the_same_names(capsys: pytest.CaptureFixture[str]) -> None:
    Path("two.csv").write_text(Path("own.csv").read_text())
    records = [f"{name},{i}" for i, name in enumerate(MOS)]
    path = write("s.csv", "image,score", *records)
    assert run(f"--model.path {path} --data.test [own.csv,two.csv]") == 2
    assert "0.png of own or 0.png of two; test the data sets one by one" in capsys.readouterr().err
    both = [f"own,{r}" for r in records] + [f"two,{r.replace(',', ',-')}" for r in records]
    path = write("s.csv", "set,image,score", *both)
    named = f"--model.path {path} --model.dataset set --model.outside keep"
    assert run(f"{named} --data.test [own.csv,two.csv]") == 0
    signs = {r["dataset"]: round(float(r["srcc"])) for r in rows("results.csv")}
    assert signs == {"own": 1, "two": -1, "mean": 0}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["image,score", "a.png,1", "a.png,2"], "line 3: a second prediction for a.png"),
        (["image,score", "a.png,", "b.png,four"], "not one score in column 'score'"),
        (["image,rating", "a.png,1"], "column score missing"),
        (["name,score", "a.png,1"], "column image missing"),
        (["image,score", ",1"], "line 2: a record with image expected"),
        (["image,score"], "no column image, score; it has none"),
        ([], "column image, score missing"),
    ],
)
def test_broken_tables(lines: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Predictions(write("s.csv", *lines))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"image": "a.png"}]', "no column score; it has image"),
        ('[{"image": "a.png", "score": 1}, 3]', "record 2: a record with image expected: 3"),
        ('[{"image": "a.png", "score": 1}', "broken JSON"),
        ("[]", "no column image, score; it has none"),
    ],
)
def test_broken_json(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Predictions(write("s.json", text))


def test_a_record_without_the_data_set() -> None:
    records = [{"image": "a.png", "score": 1, "set": "own"}, {"image": "b.png", "score": 1}]
    with pytest.raises(InputError, match="record 2: a record with image, set expected"):
        Predictions(write("s.json", json.dumps(records)), dataset="set")


@pytest.mark.parametrize("front", ["a/b/", "C:\\\\sets\\\\", "./", "A/"])
def test_names_with_folders_in_front_and_in_another_case(
    front: str, caplog: pytest.LogCaptureFixture
) -> None:
    scores = [f"{front}{name.upper()},{mos}" for name, mos in MOS.items()]
    path = write("s.csv", "image,score", *scores)
    assert run(f"--model.path {path} --data.test [own.csv]") == 0
    assert float(rows("results.csv")[0]["plcc"]) == pytest.approx(1)
    assert (
        "8 of 8 images are matched by the last parts of their names, such as 0.png" in caplog.text
    )


def test_two_predictions_for_one_image(capsys: pytest.CaptureFixture[str]) -> None:
    scores = [f"one/{name},{mos}" for name, mos in MOS.items()]
    path = write("s.csv", "image,score", *scores, "two/3.png,4")
    assert run(f"--model.path {path} --data.test [own.csv]") == 2
    said = capsys.readouterr().err
    assert "s.csv, line 10: two/3.png and one/3.png both match 3.png of own" in said


def test_an_absent_file_and_one_about_other_images(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"absent\.csv: no such file of predictions"):
        Predictions("absent.csv")
    path = write("s.csv", "image,score", "cat.png,1")
    assert run(f"--model.path {path} --data.test [own.csv]") == 2
    assert "no prediction for any of the 8 images, such as 0.png" in capsys.readouterr().err


# Marks of failure, scales and shards -------------------------------------------------------------


def figures(options: str) -> tuple[int, float]:
    """Failures and PLCC of a test in a run of its own."""
    shutil.rmtree("out", ignore_errors=True)
    assert run(f"--data.test [own.csv] {options}") == 0
    (result,) = rows("results.csv")
    return int(result["failures"]), float(result["plcc"])


def test_a_score_outside_the_scale_is_a_failure_as_with_our_own_models(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Authors write -1 where an answer failed; kept as a score it moves the printed figure."""
    scores = {**MOS, "1.png": 2.5, "6.png": 3.0, "7.png": -1.0}
    path = write("s.csv", "image,score", *(f"{name},{score}" for name, score in scores.items()))
    rated = [(score, MOS[name]) for name, score in scores.items() if score > 0]
    without = pearsonr(*zip(*rated, strict=True)).statistic
    printed = pearsonr(list(scores.values()), list(MOS.values())).statistic
    assert abs(printed - without) > 0.1
    assert figures(f"--model.path {path}") == pytest.approx((1, without), abs=1e-6)
    assert "1 of 8 scores in column 'score' lie outside [1, 5]" in caplog.text
    statuses = [row["status"] for row in rows("predictions.csv")]
    assert statuses[-1] == read('<answer>{"rating": -1.0}</answer>').status
    assert figures(f"--model.path {path} --model.outside keep") == pytest.approx(
        (0, printed), abs=1e-6
    )
    kept = f"--model.path {path} --model.outside keep --model.failed -1"
    assert figures(kept) == pytest.approx((1, without), abs=1e-6)


def test_a_mark_on_the_scale_is_no_score() -> None:
    scores = {**MOS, "7.png": 1.0}
    path = write("s.csv", "image,score", *(f"{name},{score}" for name, score in scores.items()))
    assert figures(f"--model.path {path} --model.failed 1") == pytest.approx((2, 1))


def test_another_scale_is_refused_unless_it_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write("s.csv", "image,score", *(f"{name},{20 * mos}" for name, mos in MOS.items()))
    assert run(f"--model.path {path} --data.test [own.csv]") == 2
    assert "8 of 8 scores in column 'score' lie outside [1, 5]" in capsys.readouterr().err
    assert figures(f"--model.path {path} --model.outside keep") == pytest.approx((0, 1))


def shards() -> list[str]:
    records = [{"image": name, "score": mos} for name, mos in MOS.items()]
    return [write(f"p{i}.json", json.dumps(records[i::4])) for i in range(4)]


@pytest.mark.parametrize("path", ["'p*.json'", "'[p0.json, p1.json, p2.json, p3.json]'"])
def test_several_files_are_one_set(path: str) -> None:
    shards()
    assert figures(f"--model.path {path}") == pytest.approx((0, 1))


def test_a_shard_alone_is_refused_unless_it_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = shards()[0]
    assert run(f"--model.path {file} --data.test [own.csv]") == 2
    assert "p0.json: no prediction for 6 of 8 images of own" in capsys.readouterr().err
    Path("own.csv").write_text(Path("own.csv").read_text() + "\n8.png,1.2\n9.png,1.9")
    assert figures("--model.path 'p*.json' --model.coverage 0.8") == pytest.approx((2, 1))


def test_a_data_set_that_a_file_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    Path("two.csv").write_text("image,mos\n" + "\n".join(f"b{i}.png,{1 + i}" for i in range(4)))
    shards()
    assert run("--model.path 'p*.json' --data.test [own.csv,two.csv]") == 2
    assert "no prediction for 4 of 4 images of two" in capsys.readouterr().err


def test_a_pattern_without_files_and_an_image_in_two_files() -> None:
    with pytest.raises(InputError, match=r"q\*\.json: no file matches the pattern"):
        Predictions("q*.json")
    with pytest.raises(InputError, match="names no file"):
        Predictions([])
    write("p9.json", json.dumps([{"image": "0.png", "score": 3}]))
    shards()
    with pytest.raises(InputError, match=r"p9\.json.*: a second prediction for 0\.png"):
        Predictions("p*.json")


@pytest.mark.parametrize(
    ("value", "score"),
    [("3.5", 3.5), (4, 4.0), (" 2 ", 2.0), ("-1", -1.0), (None, None), ("", None), (True, None)],
)
def test_read_score(value: object, score: float | None) -> None:
    found, status = read_score(value)
    assert (status == "ok") is (score is not None)
    assert math.isnan(found) if score is None else found == score


# Understanding Pure Textual Reasoning, table I: PLCC and SRCC on KonIQ.
@pytest.mark.parametrize(
    ("model", "image", "text"),
    [
        ("v11", ("0.920", "0.907"), ("0.859", "0.827")),  # Q-Insight-Score, reproduced
        ("v13", ("0.917", "0.905"), ("0.900", "0.879")),  # Self-Consistency
    ],
)
def test_published_figures(
    shared: Path, model: str, image: tuple[str, str], text: tuple[str, str]
) -> None:
    file = shared / f"data/predictions/{model}_koniq.csv"
    columns = "--model.columns '{image: overall_score, text: caption_score}'"
    where = f"--data.root {shared / 'data'} --data.test [koniq10k/paper3015]"
    assert run(f"--model.path {file} {columns} {where}") == 0
    results = {r["condition"]: r for r in rows("results.csv") if r["dataset"] == "koniq10k"}
    for condition, printed in (("image", image), ("text", text)):
        found = results[condition]
        assert (found["n"], found["failures"]) == ("3015", "0")
        assert tuple(f"{float(found[name]):.3f}" for name in ("plcc", "srcc")) == printed
