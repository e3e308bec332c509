"""How-to pages: their commands and their code run, in their order, on a little synthetic data."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pages
import pytest
import torch
import yaml
from conftest import REPOSITORY
from safetensors.torch import load_file

# Settings that make the fits of the pages small.
QUICKSTART = {
    "data.sets.synthetic.sources": 12,
    "data.sets.synthetic.size": 48,
    "model.init_args.head.prototypes": 8,
    "model.init_args.head.buckets": 4,
    "model.init_args.head.pca": 4,
    "trainer.max_epochs": 1,
}
SMALL: dict[str, dict[str, int]] = {
    "quickstart": QUICKSTART | {"model.init_args.encoder.init_args.size": 48},
    "rali/own_csv": {"model.init_args.encoder.init_args.size": 48},
    "regression.yaml": {"trainer.max_epochs": 2, "data.sets.synthetic.sources": 8},
}


@pytest.fixture
def here(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory as the pages take it for granted."""
    pages.furnish(working_folder)
    monkeypatch.syspath_prepend(str(working_folder))
    return working_folder


def small(command: list[str]) -> list[str]:
    """A command of a page, with settings that make a fit small; none of them is on the page."""
    if command[0] not in ("fit", "test", "predict") or "--print_config" in command:
        return command
    recipe = command[command.index("--config") + 1] if "--config" in command else ""
    settings = {"data.loader.num_workers": 0} | (
        SMALL.get(recipe, {}) if command[0] == "fit" else {}
    )
    return command + [f"--{name}={value}" for name, value in settings.items()]


def results(run: str) -> dict[str, dict[str, str]]:
    """Lines of a run's results by data set, the mean left out."""
    with Path(run, "test", "results.csv").open(newline="") as file:
        lines = {line["dataset"]: line for line in csv.DictReader(file)}
    return {name: line for name, line in lines.items() if name != "mean"}


def test_your_data_is_tested(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in pages.commands("test-your-data.md"):
        pages.run(small(command))
    assert results("runs/first").keys() == {"synthetic", "ratings"}
    theirs = results("runs/theirs")["ratings"]
    assert theirs["n"] == "48" and float(theirs["srcc"]) == pytest.approx(-1, abs=1e-3)
    capsys.readouterr()
    (code,) = pages.blocks("test-your-data.md", "python")
    exec(compile(code, "test-your-data.md", "exec"), {})
    assert "\nratings 48 " in f"\n{capsys.readouterr().out.splitlines()[-1]}"


def test_photographs_are_scored(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in pages.commands("score.md"):
        pages.run(small(command))
    with Path("scores.csv").open(newline="") as file:
        scores = [float(row["score"]) for row in csv.DictReader(file)]
    assert len(scores) == 48 and scores == sorted(scores)
    assert capsys.readouterr().out.count("48 scored, 0 not scored") == 2


def test_the_steps_to_a_table_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("configs").symlink_to(REPOSITORY / "configs")
    header, settings, test, table = pages.commands("reproduce.md")
    pages.run(header)
    assert "pyiqa" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:  # as jsonargparse ends what only prints
        pages.run(settings)
    assert ended.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["class_path"].endswith(".RALI")
    pages.run(small(test))
    pages.run(table)
    assert capsys.readouterr().out.count("not measured") > 10


def test_rali_is_trained_on_your_data(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in pages.commands("train-your-data.md"):
        pages.run(small(command))
    assert "48 scored, 0 not scored" in capsys.readouterr().out
    own, aligned = (load_file(f"runs/{run}/scorer.safetensors") for run in ("own", "aligned"))
    tower = [name for name in own if name.startswith("tower.") and name.endswith("weight")]
    assert tower and not all(torch.equal(own[name], aligned[name]) for name in tower)
    (code,) = pages.blocks("train-your-data.md", "python")
    exec(compile(code, "train-your-data.md", "exec"), {})
    assert 1 <= float(capsys.readouterr().out.splitlines()[-1]) <= 5


def test_the_method_of_the_page_trains_tests_and_ships(here: Path) -> None:
    (code,), (recipe,) = (pages.blocks("add-a-method.md", kind) for kind in ("python", "yaml"))
    Path("regression.py").write_text(code)
    Path("regression.yaml").write_text(recipe)
    for command in pages.commands("add-a-method.md"):
        pages.run(small(command))
    found = results("runs/regression")
    assert found.keys() == {"synthetic", "ratings"} and found["ratings"]["n"] == "48"
    assert all(math.isfinite(float(line["srcc"])) for line in found.values())
    shipped = load_file("runs/regression/regression.safetensors")
    best = next(Path("runs/regression/checkpoints").glob("best*"))
    saved = torch.load(best, weights_only=True)["state_dict"]
    assert shipped.keys() == saved.keys()
    assert all(torch.equal(shipped[name], saved[name]) for name in saved)
