"""The four studies of a run, from its folder to files."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from typing import Any

import pytest
import runs
import torch

from lit_biqa.cli import analyse, restore
from lit_biqa.readouts.levels import FromDescription, LevelLogits
from lit_biqa.types import InputError, Sample

SHORT = {"temperature": 0.0, "budget": 6}


def readout(name: str, **init: Any) -> dict[str, Any]:
    return {"class_path": f"lit_biqa.readouts.levels.{name}", "init_args": init}


def settings(folder: Path, backbone: str) -> dict[str, Any]:
    """A little SFT with every kind of readout, tested on seven images of noise."""
    readouts = [
        *(readout("OnePass", sampling=SHORT), readout("TwoPass", sampling=SHORT)),
        *(readout("FromDescription"), readout("LevelLogits", condition="logits")),
    ]
    size = {"width": 32, "layers": 4}
    init = {
        "backbone": {"class_path": f"lit_biqa.backbones.tiny_chat.{backbone}", "init_args": size},
        "task": {"class_path": "lit_biqa.tasks.DescribeAndConclude"},
        "readouts": readouts,
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.001}},
    }
    return {
        "seed_everything": 0,
        "model": {"class_path": "lit_biqa.methods.sft.SFT", "init_args": init},
        "data": {
            "test": [str(runs.write_images(folder, "test", 7, 2))],
            "loader": {"num_workers": 0},
        },
        "trainer": {"precision": "32-true"},
        "report": {"bootstrap": 0},
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder whose weights are not those that its settings make."""
    folder = tmp_path_factory.mktemp("run")
    runs.write_settings(folder / "config.yaml", settings(folder, "TinyMplugOwl2"))
    method, _, _ = restore.instantiate([f"--config={folder / 'config.yaml'}"])
    method.load()
    state = {name: weight + 0.01 for name, weight in method.state_dict().items()}
    (folder / "checkpoints").mkdir()
    torch.save({"state_dict": state}, folder / "checkpoints" / "best.ckpt")
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_study_of_a_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--run", str(run), "--samples", "5"]
    draws = ["--sessions", "2", "--temperature", "1"]
    assert analyse.main(["instability", *few, *draws, "--predictions", "3"]) == 0
    assert analyse.main(["accuracy", *few, *draws]) == 0
    assert analyse.main(["attention", *few, "--condition", "two-pass", "--at-once", "3"]) == 0
    out = run / "analysis"
    assert len(table(out / "one-pass" / "instability.csv")) == 5 * 2
    assert len(table(out / "one-pass" / "instability_answers.csv")) == 5 * 2 * 3
    assert len(table(out / "one-pass" / "accuracy.csv")) == 5 * 2
    rows = table(out / "two-pass" / "attention.csv")
    sums = [sum(float(row["share_mean"]) for row in rows[at : at + 3]) for at in (0, 12)]
    assert sums == pytest.approx([1, 1], abs=1e-5)
    assert {path.suffix for path in (out / "one-pass").iterdir()} == {".csv", ".png"}
    printed = capsys.readouterr().out
    assert "test: unstable predictions" in printed
    assert f"written to {out / 'two-pass'}" in printed


def test_weights_are_the_runs(run: Path) -> None:
    prepare = restore.prepare
    trained = prepare(run, None, [], "logits", None, 3, 0, False)
    made = prepare(run, "none", [], "logits", None, 3, 1, False)
    weight, other = (each.model.head.weight for each in (trained, made))
    torch.testing.assert_close(weight, other + 0.01)
    names, others = (
        [n for batch in each.loader for n in batch["name"]] for each in (trained, made)
    )
    assert len(names) == len(others) == 3
    assert names != others


def test_samples_are_drawn_by_seed_among_those_that_can_be_read() -> None:
    drawn = restore.drawn
    samples = [
        Sample("own", "all", row, f"{row}.png", Path("a") if row % 2 else None, mos)
        for row, mos in enumerate([1.0, math.nan, 3.0] * 8)
    ]
    found = drawn(samples, LevelLogits(), 5, 0, False)
    assert found == drawn(samples, LevelLogits(), 5, 0, False)
    assert found != drawn(samples, LevelLogits(), 5, 1, False)
    assert [each.index for each in found] == sorted({each.index for each in found})
    assert len(found) == 5
    assert all(each.path for each in found)
    assert len(drawn(samples, LevelLogits(), 99, 0, False)) == 12
    shuffled = drawn(samples, LevelLogits(), None, 0, False)
    assert sorted(shuffled[:5], key=lambda each: each.index) == found and len(shuffled) == 12
    assert len(drawn(samples, LevelLogits(), 99, 0, True)) == 8
    with pytest.raises(InputError, match=r"none of 24 test samples .* needs texts and MOS"):
        drawn(samples, FromDescription(), 5, 0, True)


def test_a_configuration_and_what_shall_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = runs.write_settings(tmp_path / "q.yaml", settings(tmp_path, "TinyQwenVL"))
    where = ["--config", str(file), "--ckpt_path", "none", "--out", str(tmp_path / "out")]
    other = f"--data.test=[{runs.write_images(tmp_path, 'other', 4, 3)}]"
    lens = ["logit-lens", *where, "--condition", "description", "--first-layer", "4", other]
    assert analyse.main([*lens, "--level", "none"]) == 2
    said = capsys.readouterr().err
    assert analyse.main([*lens, "--level", re.findall(r"predicted: \d+ (\w+)", said)[0]]) == 0
    rows = table(tmp_path / "out" / "logit_lens.csv")
    assert {row["layer"] for row in rows} == {"4"}
    assert table(tmp_path / "out" / "logit_lens_samples.csv")[0]["dataset"] == "other"


def wrong(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert analyse.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_bad_input(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: object) -> str:
        return wrong(capsys, *arguments)

    assert "holds no config.yaml" in said("accuracy", "--run", tmp_path)
    assert "no output folder" in said("accuracy", "--config", run / "config.yaml")
    given = ("--run", run)
    assert "readouts are one-pass, two-pass" in said("attention", *given, "--condition", "word")
    assert "no sample was predicted 'great'" in said("logit-lens", *given, "--level", "great")
    assert "there is no layer 9" in said("logit-lens", *given, "--first-layer", 9)
    assert "Nearest names: data.test" in said("accuracy", *given, "--data.tset=[]")
    assert "none of 0 test samples" in said("accuracy", *given, "--data.test=[]")
    assert "no checkpoint" in said("accuracy", *given, "--ckpt_path", "last")


def test_models_that_name_no_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(changed: dict[str, Any]) -> str:
        file = runs.write_settings(tmp_path / "changed.yaml", changed)
        where = ("--config", file, "--ckpt_path", "none", "--out", tmp_path)
        return wrong(capsys, "accuracy", *where)

    assert "RALI names no quality words" in said(runs.tiny_settings(tmp_path))
    mute = settings(tmp_path, "TinyQwenVL")
    mute["model"]["init_args"]["readouts"] = []
    assert "the run has no readout" in said(mute)
    words = {"scores": {"good": 5.0, "unsatisfactory": 1.0}}
    mute["model"]["init_args"]["readouts"] = [readout("LevelLogits", words=words)]
    assert "unsatisfactory of the word set good, unsatisfactory are no single tokens" in said(mute)
