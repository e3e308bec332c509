"""Loggers of the command line: TensorBoard's stays, those of a user write into the run folder."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import runs
import yaml

from lit_biqa.cli.loggers import with_folders


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (
            ["--trainer.logger=CSVLogger"],
            ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=."],
        ),
        (["--trainer.logger=WandbLogger"], ["--trainer.logger=WandbLogger"]),
        (["--trainer.logger=false"], ["--trainer.logger=false"]),
        (["--data.root=x"], ["--data.root=x"]),
    ],
)
def test_a_logger_without_a_folder_gets_that_of_the_run(
    given: list[str], wanted: list[str]
) -> None:
    assert with_folders(["fit", *given]) == ["fit", *wanted]


FILLED = {"class_path": "CSVLogger", "init_args": {"save_dir": "."}}


@pytest.mark.parametrize(
    ("logger", "wanted"),
    [
        ("CSVLogger", FILLED),
        ({"class_path": "CSVLogger"}, FILLED),
        ([{"class_path": "CSVLogger", "init_args": None}], [FILLED]),
        (
            {"class_path": "CSVLogger", "init_args": {"save_dir": "/x", "name": "y"}},
            {"class_path": "CSVLogger", "init_args": {"save_dir": "/x", "name": "y"}},
        ),
        (False, False),
    ],
)
def test_and_so_in_files_and_mappings(logger: object, wanted: object) -> None:
    _, config = with_folders(["fit", f"--config={yaml.safe_dump({'trainer': {'logger': logger}})}"])
    assert yaml.safe_load(config.partition("=")[2]) == {"trainer": {"logger": wanted}}
    if not isinstance(logger, (bool, str)):
        _, setting = with_folders(
            ["fit", f"--trainer.logger={yaml.safe_dump(logger, default_flow_style=True)}"]
        )
        assert yaml.safe_load(setting.partition("=")[2]) == wanted


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a fit with a CSVLogger of the user's."""
    folder = tmp_path_factory.mktemp("fitted")
    settings = runs.tiny_settings(folder / "data")
    settings["trainer"] |= {"max_epochs": 1, "logger": "CSVLogger"}
    recipe = runs.write_settings(folder / "recipe.yaml", settings)
    run = folder / "runs" / "one"
    runs.start(["fit", "--config", recipe, "--run", run], folder / "log").succeed()
    return run


def test_a_logger_is_added_and_writes_into_the_run_folder(fitted: Path) -> None:
    (metrics,) = fitted.rglob("metrics.csv")
    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {name: value for row in rows for name, value in row.items() if value}
    assert len(runs.logged(fitted, "train/loss")) == 5
    for tag in ("val/srcc", "test/srcc"):
        (value,) = runs.logged(fitted, tag).values()
        assert float(found[tag]) == pytest.approx(value)
    # The settings make a run elsewhere: they do not name this folder.
    assert str(fitted) not in (fitted / "config.yaml").read_text()


@pytest.mark.newest
def test_predict_and_validate_leave_no_events_and_a_test_one_entry(
    fitted: Path, tmp_path: Path
) -> None:
    shutil.copytree(fitted.parent.parent, tmp_path / "folder")
    images = fitted.parent.parent / "data"
    fitted = tmp_path / "folder" / "runs" / "one"
    before = set(fitted.rglob("events*"))
    other = fitted.parent / "two"
    scorer = ["--model", "PortableScorer", "--model.path", fitted / "scorer.safetensors"]
    predict = ["predict", *scorer, f"--data.predict=[{images}]", "--run", other]
    for number, args in enumerate((predict, ["validate", "--run", fitted])):
        runs.start(args, fitted.parent.parent / f"log{number}").succeed()
    assert not list(other.rglob("events*")) and not list(other.rglob("hparams.yaml"))
    assert set(fitted.rglob("events*")) == before
    assert {path.parent for path in before} == {fitted}
    tested = runs.start(["test", "--run", fitted], fitted.parent.parent / "log of test")
    tested.succeed()
    # The same weights at the same step; the headline is that of the fit's own test.
    assert len(runs.logged(fitted, "test/srcc")) == 1
    assert f"Next:\n  lit_biqa compare {fitted.parent}/*\n" in tested.printed
