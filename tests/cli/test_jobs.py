"""Jobs of the command line from Python: the same files, exceptions in place of exit codes."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import runs

import lit_biqa
from lit_biqa.cli.jobs import Run, as_text
from lit_biqa.evaluation.metrics import Correlations
from lit_biqa.evaluation.report import COLUMNS, Result
from lit_biqa.evaluation.results import Results
from lit_biqa.types import InputError


@dataclass(frozen=True)
class Fitted:
    """A run that Python made, the same of the command line, and their recipe."""

    recipe: Path
    run: Run
    other: Path


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """State that a job must leave unchanged."""
    watched = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1
    before, actions = dict(os.environ), [signal.getsignal(number) for number in watched]
    yield
    assert [signal.getsignal(number) for number in watched] == actions
    changed = {name for name, _ in before.items() ^ os.environ.items()}
    assert changed <= {"PYTEST_CURRENT_TEST"}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    folder = tmp_path_factory.mktemp("jobs")
    recipe = runs.write_settings(folder / "recipe.yaml", runs.tiny_settings(folder / "data"))
    other = folder / "other"
    short = ["--trainer.max_epochs=1", "--report.bootstrap=20"]
    command = runs.start(["fit", "--config", recipe, "--run", other, *short], folder / "log")
    settings = {"trainer.max_epochs": 1, "report.bootstrap": 20}
    run = lit_biqa.fit(recipe, run=folder / "run", settings=settings)
    command.succeed()
    return Fitted(recipe, run, other)


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_fit_is_that_of_the_command_line(fitted: Fitted) -> None:
    run, other = fitted.run, fitted.other
    for name in ("config.yaml", "test/predictions.csv", "test/results.csv"):
        assert (run.path / name).read_text() == (other / name).read_text(), name
    assert run.scorer == run.path / "scorer.safetensors" and run.weights is None
    assert lit_biqa.load_scorer(run.scorer)


def test_results_are_those_of_the_file(fitted: Fitted) -> None:
    results = fitted.run.results
    assert results.path == fitted.run.path / "test" / "results.csv"
    (row,), (line,) = results.rows, lines(results.path)
    assert list(row) == list(line) == list(COLUMNS)
    assert {k: f"{v:.6f}" if isinstance(v, float) else str(v) for k, v in row.items()} == line
    shown = repr(results)
    assert str(results.path) in shown and f"{row['srcc']:.4f}" in shown and "PLCC" in shown


def test_a_test_gives_its_own_results_and_keeps_those_before(
    fitted: Fitted, tmp_path: Path
) -> None:
    images = fitted.recipe.parent / "data" / "val.csv"
    copy = Path(shutil.copytree(fitted.run.path, tmp_path / "run"))
    before = lines(copy / "test" / "results.csv")
    results = lit_biqa.test(copy, data=images, settings={"data.loader.eval_batch_size": 2})
    assert [row["dataset"] for row in results.rows] == ["val"] and results.rows[0]["n"] == 9
    assert [line["dataset"] for line in lines(results.path)][:2] == ["test", "val"]
    assert before[0] in lines(results.path)
    (again,) = lit_biqa.test(copy).rows
    assert again["dataset"] == "test" and again["srcc"] == fitted.run.results.rows[0]["srcc"]


def test_a_run_goes_on(fitted: Fitted, tmp_path: Path) -> None:
    settings = {"ckpt_path": "last", "trainer.max_epochs": 2}
    copy = Path(shutil.copytree(fitted.other, tmp_path / "run"))
    run = lit_biqa.fit(run=copy, settings=settings)
    assert run.path == copy
    assert runs.state(copy / "checkpoints" / "last.ckpt")["global_step"] == 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trainer.max_epoch": 1}, "Nearest names: trainer.max_epochs"),
        ({"data.train": ["koniq"]}, "koniq10k"),
        ({"model.init_args.warmup": 3.0}, "model.warmup is 3.0"),
        ({"trainer.val_check_interval": 1000}, "trainer.val_check_interval"),
        ({"ckpt_path": "last"}, "no checkpoint at"),
    ],
)
def test_what_is_wrong_is_an_exception(
    settings: dict[str, object], message: str, fitted: Fitted, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        lit_biqa.fit(fitted.recipe, run=tmp_path / "new", settings=settings)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_used_folder_is_refused(fitted: Fitted) -> None:
    with pytest.raises(InputError, match="already holds a fit"):
        lit_biqa.fit(fitted.recipe, run=fitted.run.path)
    with pytest.raises(InputError, match="does not exist"):
        lit_biqa.test(fitted.recipe.parent / "nowhere")


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_signals_end_a_fit_in_order(
    number: signal.Signals, raised: type[BaseException], fitted: Fitted, tmp_path: Path
) -> None:
    # Where tests are started in a shell's background, interrupts are ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    stop: dict[str, Any] = {"moment": "train_batch_end", "step": 2, "number": int(number)}
    send = {f"trainer.callbacks.{name}": v for name, v in (stop | {"rank": 0}).items()}
    send = {"trainer.callbacks": "runs.Send", **send, "trainer.callbacks.group": False}
    try:
        with pytest.raises(raised) as error:
            lit_biqa.fit(fitted.recipe, run=tmp_path / "run", settings=send)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
    if raised is SystemExit:
        assert error.value.code == 143  # type: ignore[attr-defined]
    else:
        assert "--ckpt_path last" in str(error.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [("a b", "a b"), (True, "true"), (None, "null"), (1e-5, "1e-05"), ([1, "x"], '[1, "x"]')],
)
def test_values_are_written_as_the_command_line_takes_them(value: object, text: str) -> None:
    assert as_text(value) == text


def test_small_numbers_stay_numbers(fitted: Fitted, tmp_path: Path) -> None:
    settings = {"model.init_args.optimizer.init_args.lr": 1e-5, "trainer.max_epochs": 0}
    run = lit_biqa.fit(fitted.recipe, run=tmp_path / "run", settings=settings)
    assert "lr: 1.0e-05" in (run.path / "config.yaml").read_text()


LINES = (Result("csiq", "all@1", "image", Correlations(5, 0, 0.9, 0.8), "3fa9"),)


def test_pandas_is_asked_for_only_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results(LINES, Path("results.csv"))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install pandas, or take Results\.rows"):
        results.to_pandas()


def test_a_table_of_pandas() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is no dependency")
    frame = Results(LINES, Path("results.csv")).to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == list(COLUMNS) and frame.loc[0, "srcc"] == 0.8


def test_results_of_no_test_say_so() -> None:
    assert "nothing was tested" in repr(Results((), Path("results.csv")))
