"""Validation, tables, faults and loggers of the correlation report."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from known_scores import N, Tiny, lines, loader, trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from lit_biqa.callbacks import CorrelationReport, ResourceMeter
from lit_biqa.evaluation.metrics import UndefinedCorrelationWarning
from lit_biqa.types import Batch, InputError, Prediction


@pytest.mark.filterwarnings("ignore:spaq")
def test_constant_predictions_are_undefined_and_never_the_best(tmp_path: Path) -> None:
    class Wakes(Tiny):
        def validation_step(  # type: ignore[override]
            self, batch: Batch, batch_idx: int
        ) -> list[Prediction]:
            self.constant = self.current_epoch != 1
            return self.rows(batch)

    best = ModelCheckpoint(tmp_path, "{epoch}", "val/srcc", mode="max", save_top_k=1)
    run = trainer(tmp_path, CorrelationReport(), best, max_epochs=3, enable_checkpointing=True)
    with pytest.warns(UndefinedCorrelationWarning, match="csiq .*predictions equal 3"):
        run.fit(Wakes(), loader(), loader())
    assert math.isnan(run.callback_metrics["val/srcc"])
    assert Path(best.best_model_path).name == "epoch=1.ckpt"


def test_a_sanity_check_reports_nothing(tmp_path: Path) -> None:
    run = trainer(tmp_path, CorrelationReport(), max_epochs=0, num_sanity_val_steps=2)
    with warnings.catch_warnings():
        # Two batches are too few images for a correlation, and nobody is to hear of it.
        warnings.simplefilter("error", UndefinedCorrelationWarning)
        run.fit(Tiny(), loader(), loader())
    assert not any(name.startswith("val/") for name in run.callback_metrics)


def test_validate_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer(tmp_path, CorrelationReport(20)).validate(Tiny(), loader(), verbose=False)
    printed = capsys.readouterr().out
    assert "Validation" in printed and "PLCC" in printed and "csiq" in printed
    assert not (tmp_path / "test").exists()


class CalledMean(Tiny):
    """Tells the rows of one set as those of one that is called ``mean``."""

    def row(self, i: int, condition: str) -> Prediction:
        row = super().row(i, condition)
        return replace(row, dataset="mean") if row.dataset == "csiq" else row


def test_a_data_set_called_mean_counts_as_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monitored = []
    for model in (Tiny(), CalledMean()):
        run = trainer(tmp_path / type(model).__name__, CorrelationReport(0), ResourceMeter())
        run.validate(model, loader(), verbose=False)
        monitored.append({k: float(v) for k, v in run.callback_metrics.items()})
        run.test(model, loader(), verbose=False)
        assert (tmp_path / type(model).__name__ / "test/spaq.png").exists()
    usual, called = monitored
    assert {k: v for k, v in called.items() if "all" not in k} == {
        k: v for k, v in usual.items() if "csiq" not in k
    }
    assert called["val/mean/all-1/srcc"] == usual["val/csiq/srcc"]
    assert (tmp_path / "CalledMean/test/mean-all-1.png").exists()
    (line,) = lines(tmp_path / "CalledMean/test/costs.csv")
    assert line["datasets"] == "mean/all@1, spaq/all@1"


def test_a_data_set_called_as_a_condition_is_told_from_the_mean(tmp_path: Path) -> None:
    class CalledText(Tiny):
        def row(self, i: int, condition: str) -> Prediction:
            row = super().row(i, condition)
            return replace(row, dataset="text") if row.dataset == "csiq" else row

    found = []
    for model in (Tiny(conditions=("image", "text")), CalledText(conditions=("image", "text"))):
        run = trainer(tmp_path, CorrelationReport(0))
        run.validate(model, loader(), verbose=False)
        found.append({k: float(v) for k, v in run.callback_metrics.items()})
    usual, called = found
    assert len(usual) == len(called)
    for name in ("val/srcc", "val/text/srcc", "val/spaq/srcc", "val/spaq/text/srcc"):
        assert called[name] == usual[name]
    assert called["val/text/image/srcc"] == usual["val/csiq/srcc"]
    assert called["val/text/text/srcc"] == usual["val/csiq/text/srcc"]


def test_one_table_is_printed_and_results_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = CorrelationReport(20)
    trainer(tmp_path, report).test(Tiny(), loader())
    printed = capsys.readouterr().out
    assert printed.count("| data set |") == 1
    srcc = {result.dataset: result.correlations.srcc for result in report.results}
    assert set(srcc) == {"csiq", "spaq", "mean"}
    for value in srcc.values():
        assert f"{value:.4f}" in printed


def test_the_table_is_printed_before_a_file_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], full_disk: None
) -> None:
    with pytest.raises(InputError, match="No space left"):
        trainer(tmp_path, CorrelationReport(20)).test(Tiny(), loader())
    assert "mean" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "test").iterdir()] == [".store.lock"]


def test_a_step_that_returns_no_predictions_is_told_so(tmp_path: Path) -> None:
    class Wrong(Tiny):
        def test_step(self, batch: Batch, batch_idx: int) -> Any:
            return torch.zeros(3)

    with pytest.raises(TypeError, match="test_step must return"):
        trainer(tmp_path, CorrelationReport()).test(Wrong(), loader())


def test_a_test_that_measured_nothing_is_an_error(tmp_path: Path) -> None:
    run = trainer(tmp_path, CorrelationReport())
    with pytest.raises(InputError, match="the test measured no row"):
        run.test(Tiny(conditions=()), loader())
    assert not (tmp_path / "test").exists()


def test_other_loggers_get_the_scalars(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    trainer(tmp_path, CorrelationReport(20), ResourceMeter(), logger=logger).test(Tiny(), loader())
    found: dict[str, str] = {}
    for line in lines(tmp_path / "metrics.csv"):
        found |= {name: value for name, value in line.items() if value}
    assert float(found["test/mean/n"]) == N
    assert float(found["test/images_per_second"]) > 0
    assert float(found["test/srcc"]) == float(found["test/mean/srcc"])
    assert not list(tmp_path.rglob("events*"))
