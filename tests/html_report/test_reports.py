"""Reports of runs and of comparisons: from the files of a folder, within a size, the same again."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import WEIGHTS, write_images, write_run
from PIL import Image
from safetensors.numpy import save_file

from lit_biqa.callbacks.rollout_table import markdown
from lit_biqa.cli import compare, report
from lit_biqa.html_report import comparison_report, page, ratings
from lit_biqa.html_report.failures import failure_section
from lit_biqa.html_report.ratings import said, worst_section
from lit_biqa.html_report.rows import read_scored, read_tested
from lit_biqa.html_report.run_report import LARGEST, write_report
from lit_biqa.html_report.thumbnails import thumbnails
from lit_biqa.html_report.training import read_table
from lit_biqa.types import InputError, Prediction, TextPrediction

pytestmark = pytest.mark.newest

RNG = np.random.default_rng(3)
MOS = RNG.uniform(1, 5, 12)
NAMES = [f"{i}.png" for i in range(12)]


def rows(noise: float = 0.3, seed: int = 0) -> list[Prediction]:
    scores = MOS + np.random.default_rng(seed).normal(0, noise, 12)
    return [
        Prediction("csiq", "all@1", i, NAMES[i], float(MOS[i]), float(scores[i]), group=f"g{i % 3}")
        for i in range(12)
    ]


def tables(file: Path) -> dict[str, Any]:
    """Tables of the charts of a page."""
    found = re.findall(
        r'<script type="application/json" id="table-(\w+)">(.*?)</script>', file.read_text(), re.S
    )
    return {name: json.loads(text) for name, text in found}


def test_a_report_is_made_of_the_files_alone_and_is_the_same_again(tmp_path: Path) -> None:
    write_images(tmp_path / "images", NAMES)
    run = write_run(tmp_path / "run", rows(), tmp_path / "images")
    file = write_report(run)
    first = file.read_bytes()
    assert write_report(run).read_bytes() == first
    text = file.read_text()
    assert "config.yaml" in text
    assert "Drawn with lit_biqa" in text
    assert WEIGHTS in text
    held = tables(file)
    assert len(held["rows"]) == len(held["images"]) == 12
    assert held["rows"][0]["error"] == pytest.approx(rows()[0].score - rows()[0].mos, abs=1e-4)
    assert all(line["size"] == "64 × 48" for line in held["images"])
    assert all(line["image"].startswith("data:image/webp;base64,") for line in held["images"])
    # Nothing is loaded: no address but names of formats.
    assert not re.findall(r"(?:src|href)=(?!\"data:)", text.split("<script>")[0])


def test_images_that_are_absent_are_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rows(), tmp_path / "nowhere")
    text = write_report(run).read_text()
    assert "12 of 12 images have no thumbnail" in text
    assert "no image on disk" in text
    assert not any("image" in line for line in tables(run / "report.html")["images"])
    (run / "test" / "images.csv").unlink()
    assert "No image has a thumbnail: test/images.csv" in write_report(run).read_text()
    with pytest.raises(InputError, match="there is no run folder"):
        write_report(tmp_path / "absent")


def test_ten_thousand_images_stay_below_thirty_megabytes(tmp_path: Path) -> None:
    count, distinct = 10_000, 8
    for number in range(distinct):
        noise = RNG.integers(0, 256, (240, 320, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
    mos = RNG.uniform(1, 5, count).tolist()
    many = [
        Prediction("koniq10k", "all@1", i, f"{i % distinct}.png", mos[i], mos[i] / 2 + 1)
        for i in range(count)
    ]
    run = write_run(tmp_path / "run", many, tmp_path)
    file = write_report(run)
    assert file.stat().st_size < LARGEST < 30_000_000
    # Noise is what WebP makes largest, and has a thumbnail nonetheless.
    assert all("image" in line for line in tables(file)["images"])


def test_thumbnails_keep_to_their_share(tmp_path: Path) -> None:
    noise = Image.fromarray(RNG.integers(0, 256, (300, 400, 3), dtype=np.uint8))
    noise.save(tmp_path / "a.png")
    Image.new("RGB", (20, 30)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    paths = {name: tmp_path / f"{name}.png" for name in "abcd"}
    made = thumbnails(paths, 40_000)
    assert (made["a"].width, made["a"].height) == (400, 300)
    assert 0 < len(made["a"].uri) <= 10_000
    assert (made["b"].width, made["b"].height) == (20, 30)
    assert (made["c"].uri, made["c"].width, made["d"].uri) == ("", 0, "")
    assert thumbnails(paths, 40)["a"].uri == ""


def test_the_worst_are_those_with_the_largest_errors(tmp_path: Path) -> None:
    errors = [0.1, -0.2, 0.9, -1.1, 0.0, 0.4, -0.3, 0.2, -0.1, 1.5, -0.8, 0.6, 0.7, 0.3, 0.05, -0.5]
    made = [Prediction("csiq", "a@1", i, f"{i}", 3.0, 3.0 + e) for i, e in enumerate(errors)]
    section = worst_section(read_tested(write_run(tmp_path, made)))
    named = {heading: [int(each.name) for each in some] for heading, some in section.examples}
    assert named["Rated too high"] == [9, 2, 12, 11, 5, 13]
    assert named["Rated too low"] == [3, 10, 15, 6, 1, 8]


def test_failures_and_leaks_by_kind(tmp_path: Path) -> None:
    seen = [
        TextPrediction("csiq", "a@1", i, f"{i}.png", 3.0, 3.0, text=text)
        for i, text in enumerate(
            ["I say 3.7 of 5.<think>a</think>", "A 2.1 at best.", "Sharp.", "x"]
        )
    ]
    read = [replace(row, condition="text", score=3.7, leak=row.index < 2) for row in seen]
    read[2] = replace(read[2], score=float("nan"), status="no JSON in the answer")
    broken = [
        Prediction("csiq", "a@1", i, f"{i}.png", 3.0, float("nan"), status=f"unreadable: {i}.png")
        for i in (4, 5)
    ]
    failures, leaks = failure_section(
        read_tested(write_run(tmp_path, [*seen, *read, *broken]))
    ).grids
    assert [(row[3], row[-2]) for row in failures.rows] == [
        ("unreadable", "2"),
        ("no JSON in the answer", "1"),
    ]
    assert [(row[3], row[4]) for row in leaks.rows] == [
        ("names another rating", "A 2.1 at best."),
        ("names its score", "I say 3.7 of 5.<think>a</think>"),
    ]


def test_texts_are_split_into_caption_and_reasoning() -> None:
    whole = "A sharp photo.<think>Little noise.</think><answer>4</answer>"
    assert said(whole) == [("caption", "A sharp photo."), ("reasoning", "Little noise.")]
    assert said("It is good.") == [("text", "It is good.")]
    assert said("") == []


def test_a_table_of_completions_is_read_as_it_was_written() -> None:
    written = [
        {"image": "koniq10k 3", "said": "<think>a | b*_`\nc</think>"},
        {"image": "spaq 1", "said": "d"},
    ]
    assert read_table(markdown(written)) == written
    assert read_table("") == []


def test_curves_and_completions_of_a_fit(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    run = write_run(tmp_path / "run", rows())
    with SummaryWriter(run) as writer:
        for step in range(1, 7):
            for slot in ("", "/score", "/format"):
                writer.add_scalar(f"train/reward{slot}", step / 10, step)
            said = [{"image": f"csiq {step}", "MOS": "3.00", "reward": "0.5", "said": "<b>x</b>"}]
            writer.add_text("rollouts", markdown(said), step)
    file = write_report(run)
    curves = tables(file)["rewards"]
    assert {line["tag"] for line in curves} == {
        f"train/reward{s}" for s in ("", "/score", "/format")
    }
    assert [line["step"] for line in curves if line["tag"] == "train/reward"] == [1, 2, 3, 4, 5, 6]
    text = file.read_text()
    assert "&lt;b&gt;x&lt;/b&gt;" in text
    assert [f"csiq {step}<" in text for step in range(1, 7)].count(True) == 4


def test_prototypes_and_attention_have_a_section_where_they_are(tmp_path: Path) -> None:
    write_images(tmp_path, NAMES)
    run = write_run(tmp_path / "run", rows())
    header = "prototype,score,dataset,split,index,name,mos,cosine,path,text\n"
    near = f"0,2.5,csiq,all@1,3,3.png,2.4,0.93,{tmp_path / '3.png'},its <grain> is fine\n"
    (run / "prototypes.csv").write_text(header + near)
    words = run / "analysis" / "image" / "score_attention_words.csv"
    words.parent.mkdir(parents=True)
    words.write_text("word,count,mean,last,times_uniform\nblurred,3,0.2,0.1,4.5\n")
    file = write_report(run)
    assert "Prototype 0, score 2.50" in file.read_text()
    assert "its &lt;grain&gt; is fine" in file.read_text()
    assert tables(file)["words"] == [{"word": "blurred", "count": 3, "times_uniform": 4.5}]


def test_scored_images_have_a_report(tmp_path: Path) -> None:
    write_images(tmp_path, NAMES)
    header = "dataset,split,condition,name,mos,score,status,index,group,cluster,path,weights\n"
    lines = [
        f"photos,all,image,{name},nan,{2 + i / 10},ok,{i},,,{tmp_path / name},{WEIGHTS}\n"
        for i, name in enumerate(NAMES)
    ]
    (tmp_path / "predictions.csv").write_text(header + "".join(lines))
    assert len(read_scored(tmp_path)) == 12
    held = tables(write_report(tmp_path))
    assert [line["score"] for line in held["scored"]][:2] == [2.0, 2.1]
    assert all("image" in line for line in held["images"])


def test_runs_are_compared_on_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "images", NAMES)
    write_run(tmp_path / "a", rows(0.1, 1), tmp_path / "images")
    other = [replace(row, score=5.0) if row.index == 7 else row for row in rows(0.1, 1)]
    write_run(tmp_path / "b", other, tmp_path / "images")
    runs = [str(tmp_path / name) for name in "ab"]
    assert compare.main([*runs, "--resamples", "50"]) == 0
    assert f"written: {tmp_path / 'report.html'}" in capsys.readouterr().err
    held = tables(tmp_path / "report.html")
    assert [line["label"] for line in held["differences"]] == ["PLCC on csiq", "SRCC on csiq"]
    assert held["pairs"][0]["key"] == 7  # the image on which they disagree is first
    assert all("image" in line for line in held["images"])
    assert "sizes" not in held  # neither run has weights
    first = (tmp_path / "report.html").read_bytes()
    chosen = tmp_path / "chosen.html"
    assert compare.main([*runs, "--resamples", "50", "--report", str(chosen)]) == 0
    assert chosen.read_bytes() == first
    assert compare.main([*runs, "--mean-over", "seed", "--report", str(chosen)]) == 2


def test_of_very_many_pairs_those_with_the_largest_disagreement_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison_report, "_MOST", 1)
    for name in "ab":
        write_run(tmp_path / name, rows(0.1, 1))
    assert compare.main([str(tmp_path / name) for name in "ab"] + ["--resamples", "9"]) == 0
    text = (tmp_path / "report.html").read_text()
    assert re.search(r"Drawn: the 1 pairs of \d+ with the largest disagreement\.", text)


def test_runs_with_weights_are_drawn_over_their_parameters(tmp_path: Path) -> None:
    for name, error, count in (("a", 0.1, 9), ("b", 0.3, 200), ("c", 0.2, 0)):
        tested = rows(error, 1)
        run = write_run(tmp_path / name, [*tested, *(replace(row, dataset="a") for row in tested)])
        if count:
            save_file({"w": np.zeros(count)}, run / "scorer.safetensors")
    assert compare.main([*(str(tmp_path / name) for name in "abc"), "--resamples", "0"]) == 0
    file = tmp_path / "report.html"
    drawn = tables(file)["sizes"]
    assert [(x["run"], x["metric"], x["parameters"]) for x in drawn] == [
        *(("a", "PLCC", 9), ("a", "SRCC", 9), ("b", "PLCC", 200), ("b", "SRCC", 200)),
    ]
    assert all(0 < x["value"] <= 1 for x in drawn)
    assert "Correlation and parameters, mean" in file.read_text()
    save_file({"w": np.zeros(9)}, tmp_path / "b" / "scorer.safetensors")
    assert compare.main([*(str(tmp_path / name) for name in "abc"), "--resamples", "0"]) == 0
    assert "sizes" not in tables(file), "nothing to see over one size"


def test_a_report_that_fails_is_a_warning_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", rows())

    def fail() -> str:
        raise RuntimeError("no\nscript")

    monkeypatch.setattr(page, "bundle", fail)
    assert not report.draw(run)
    said = capsys.readouterr().err
    assert said == f"warning: {run / 'report.html'} was not drawn: RuntimeError: no script\n"
    assert compare.main([str(run)]) == 0
    assert "was not drawn" in capsys.readouterr().err


def test_reports_are_drawn_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", rows())
    assert report.main([str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    (tmp_path / "report.html").touch()  # of a comparison
    assert report.main([*map(str, tmp_path.iterdir())]) == 0
    assert report.main([str(tmp_path), str(run)]) == 2
    assert "holds no predictions to report on: run `lit_biqa test" in capsys.readouterr().err


def test_a_broken_file_costs_its_section_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rows())
    (run / "test" / "results.csv").write_text("a,b\n")
    (run / "prototypes.csv").write_text(
        "prototype,score,dataset,name,mos,cosine,path,text\n0,,koniq10k,a.png,3,0.5,,\n"
    )
    words = run / "analysis" / "image" / "score_attention_words.csv"
    words.parent.mkdir(parents=True)
    words.write_text("word,count,times_uniform\nsharp,many,1.5\n")
    text = write_report(run).read_text()
    assert re.search(r"Not shown: \S*results\.csv\b[^<]*columns", text)
    assert "prototypes.csv, line 2: score is no number" in text
    assert "score_attention_words.csv, line 2: count is no number" in text
    assert len(tables(run / "report.html")["rows"]) == 12
    predictions = run / "test" / "predictions.csv"
    lines = predictions.read_text().splitlines()
    place = lines[0].split(",").index("mos")
    cells = lines[1].split(",")
    cells[place] = "high"
    predictions.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    with pytest.raises(InputError, match=r"predictions\.csv, line 2: score or MOS is no number"):
        write_report(run)


def test_of_very_many_ratings_some_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ratings, "MOST_POINTS", 5)
    file = write_report(write_run(tmp_path / "run", rows()))
    assert len(tables(file)["rows"]) == 4
    assert "Charts draw at most 5 of the 12 ratings" in file.read_text()


def test_files_of_tested_images_are_those_of_the_samples(tmp_path: Path) -> None:
    write_run(tmp_path, rows(), tmp_path / "images")
    with (tmp_path / "test" / "images.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["index"] for line in lines] == [str(i) for i in range(12)]
    assert read_tested(tmp_path)[3].path == tmp_path / "images" / "3.png"
