"""RALI through the command line: a fit, what it ships, refitted heads and ablations."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import runs
import torch
from conftest import REPOSITORY
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

import lit_biqa
from lit_biqa.data.embeddings import read_embeddings

RECIPES = REPOSITORY / "configs" / "rali"


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole fit of two epochs."""
    folder = tmp_path_factory.mktemp("rali")
    settings = runs.write_settings(folder / "fit.yaml", runs.tiny_settings(folder / "data"))
    args = ["fit", "--config", settings, "--run", folder / "run", "--trainer.max_epochs", 2]
    runs.start(args, folder / "log").succeed()
    return folder / "run"


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def refit(fit: Path, name: str, *args: object) -> Path:
    """A head refitted on the embeddings of a fit."""
    run = fit.parent / name
    command = ["fit", "--config", fit / "config.yaml", "--config", RECIPES / "refit_head.yaml"]
    command += ["--data.images.embeddings", fit / "embeddings.safetensors", "--run", run]
    command += ["--model.init_args.scorer", fit / "scorer.safetensors", *args]
    runs.start(command, run.with_suffix(".log")).succeed()
    return run


def test_a_fit_leaves_a_tested_scorer(fit: Path) -> None:
    assert [row["dataset"] for row in rows(fit / "test" / "results.csv")] == ["test"]
    predictions = rows(fit / "test" / "predictions.csv")
    images = [fit.parent / "data" / row["name"] for row in predictions]
    scores = lit_biqa.load_scorer(fit / "scorer.safetensors")(images)
    assert scores.tolist() == pytest.approx([float(row["score"]) for row in predictions], abs=2e-5)


def test_embeddings_of_every_part_are_cached(fit: Path) -> None:
    found = read_embeddings(fit / "embeddings.safetensors")
    counts = {role: len(found.of_role(role)) for role in ("train", "val", "test")}
    assert counts == {"train": 37, "val": 9, "test": 11}
    scorer = lit_biqa.load_scorer(fit / "scorer.safetensors")
    row = found.rows[found.of_role("test")[0]]
    with Image.open(fit.parent / "data" / row.name) as image:
        pixels = scorer.transform(image.convert("RGB"))
    expected = scorer.tower(pixels[None])[0]
    assert torch.allclose(found.vectors[found.of_role("test")[0]], expected, atol=1e-5)


def test_prototypes_name_their_nearest_training_images(fit: Path) -> None:
    found = read_embeddings(fit / "embeddings.safetensors")
    train = found.of_role("train")
    head = lit_biqa.load_scorer(fit / "scorer.safetensors").head
    similar = cosine_similarity(head.prototypes, head.compress(found.vectors[train]))
    lines = rows(fit / "prototypes.csv")
    assert [int(line["prototype"]) for line in lines] == [p for p in range(8) for _ in range(3)]
    for place, line in enumerate(lines):
        cosines = similar[place // 3]
        order = cosines.argsort()[::-1]
        assert line["name"] == found.rows[train[order[place % 3]]].name
        assert float(line["cosine"]) == pytest.approx(cosines[order[place % 3]], abs=1e-5)
        assert float(line["score"]) == pytest.approx(float(head.scores[place // 3]), abs=1e-5)
        assert Path(line["path"]).name == line["name"]
        assert line["text"] in (fit.parent / "data" / "train.csv").read_text()
    assert "Prototype 0" in (fit / "report.html").read_text()


def test_a_refit_without_images_comes_to_the_same_scorer(fit: Path) -> None:
    data = fit.parent / "data"
    hidden = data.rename(data.with_name("hidden"))
    try:
        run = refit(fit, "refit")
    finally:
        hidden.rename(data)
    first, second = (rows(path / "test" / "predictions.csv") for path in (fit, run))
    assert [row["name"] for row in first] == [row["name"] for row in second]
    for one, other in zip(first, second, strict=True):
        assert float(one["score"]) == pytest.approx(float(other["score"]), abs=1e-3)
    images = [data / row["name"] for row in second]
    scores = lit_biqa.load_scorer(run / "scorer.safetensors")(images)
    assert scores.tolist() == pytest.approx([float(row["score"]) for row in second], abs=1e-3)


@pytest.mark.newest
@pytest.mark.parametrize(
    ("setting", "value"),
    [("pca", "0"), ("buckets", "1"), ("finetune", "false"), ("prototypes", "5")],
)
def test_every_head_of_the_tables_is_one_setting(fit: Path, setting: str, value: str) -> None:
    run = refit(fit, f"head-{setting}", f"--model.init_args.head.{setting}={value}")
    result = rows(run / "test" / "results.csv")[0]
    assert result["n"] == "11"
    assert math.isfinite(float(result["srcc"]))


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("no alignment", ["--trainer.max_epochs=0", "--data.texts.files=[]"]),
        ("no seed augmentation", ["--trainer.max_epochs=1", "--data.texts.per_image=1"]),
        ("no validation", ["--trainer.max_epochs=1", "--data.val=0"]),
    ],
)
def test_other_ways_to_align(fit: Path, name: str, args: list[str]) -> None:
    run = fit.parent / name.replace(" ", "-")
    settings = fit.parent / "fit.yaml"
    runs.start(
        ["fit", "--config", settings, "--run", run, *args], run.with_suffix(".log")
    ).succeed()
    assert rows(run / "test" / "results.csv")[0]["n"] == "11"
    assert (run / "scorer.safetensors").exists()


def test_a_scorer_predicts_on_a_folder_and_marks_what_it_cannot_read(fit: Path) -> None:
    folder = fit.parent / "photos"
    folder.mkdir()
    for number, mode in enumerate(("L", "RGBA", "CMYK", "RGB")):
        Image.new(mode, (50 + number, 41)).save(folder / f"{number}.tif")
    Image.new("RGB", (1, 1)).save(folder / "4.png")
    whole = (folder / "4.png").read_bytes()
    (folder / "5.png").write_bytes(whole[: len(whole) // 2])
    run = fit.parent / "predicted"
    args = ["predict", "--config", RECIPES / "score.yaml", "--run", run]
    args += ["--model.path", fit / "scorer.safetensors", "--data.predict", folder]
    runs.start([*args, "--data.loader.num_workers=0"], run.with_suffix(".log")).succeed()
    found = {row["name"]: row for row in rows(run / "predictions.csv")}
    assert sorted(found) == ["0.tif", "1.tif", "2.tif", "3.tif", "4.png", "5.png"]
    assert all(1 <= float(found[name]["score"]) <= 5 for name in sorted(found)[:4])
    assert found["4.png"]["score"] == "nan" and "pixels" in found["4.png"]["status"]
    assert found["5.png"]["score"] == "nan"
    assert "5.png" in found["5.png"]["status"]


def test_images_without_a_text_are_counted_and_take_part_in_the_head(fit: Path) -> None:
    data, run = fit.parent / "data", fit.parent / "some-bare"
    bare = {f"train-{number}.png" for number in range(16) if number % 4}
    lines = (data / "train.csv").read_text().splitlines()
    cut = [f"{line.rsplit(',', 1)[0]}," if line.split(",")[0] in bare else line for line in lines]
    (data / "some.csv").write_text("\n".join(cut))
    command = ["fit", "--config", fit.parent / "fit.yaml", "--run", run]
    command += [f"--data.train=[{data}/some.csv]", "--trainer.max_epochs=1"]
    started = runs.start(command, run.with_suffix(".log"))
    started.succeed()
    assert started.printed.count("12 of 37 training images have no text") == 1
    trained = read_embeddings(run / "embeddings.safetensors")
    assert bare <= {trained.rows[row].name for row in trained.of_role("train")}
    assert len(trained.of_role("train")) == 37
    # 47 rows less those 12, each of them an image's only one, in whole batches of 8.
    assert len(runs.logged(run, "train/loss")) == 4


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model.init_args.head.prototypes=300"], "37 training images are fewer than the 300"),
        (["--model.init_args.head.pca=30"], "at most 16"),
        (["--data.train=[{data}/bare.csv]"], "37 of 37 training images have no text"),
        (["--data.train=[{data}/degraded.csv]"], "37 of 37 training images have no MOS"),
        (["--data.images.embeddings={fit}/embeddings.safetensors"], "name the scorer"),
    ],
)
def test_what_cannot_work_is_said_before_weights_are_made(
    fit: Path, tmp_path: Path, args: list[str], message: str
) -> None:
    data = fit.parent / "data"
    lines = (data / "train.csv").read_text().splitlines()
    names = {line.split(",")[0]: line.rsplit(",", 1)[0] for line in lines}
    (data / "bare.csv").write_text("\n".join(names.values()))
    degraded = [f"{name},blur,slight" for name in names if name != "image"]
    (data / "degraded.csv").write_text("\n".join(["image,degradation,severity", *degraded]))
    filled = [arg.format(data=data, fit=fit) for arg in args]
    command = ["fit", "--config", fit.parent / "fit.yaml", "--run", tmp_path / "run", *filled]
    run = runs.start(command, tmp_path / "log")
    assert run.wait() not in (0, -9)
    assert message in run.printed
    assert "Traceback" not in run.printed
    assert "Params" not in run.printed
