"""TensorBoard events of a run, read back as TensorBoard reads them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from known_scores import Tiny, loader, trainer
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import metadata
from torch import Tensor

from lit_biqa.callbacks import CorrelationReport, ResourceMeter
from lit_biqa.callbacks.tensorboard import HEADLINES, RunLogger
from lit_biqa.types import Batch

CONFIG = "seed_everything: 1\nmodel: {class_path: m.Tiny, init_args: {width: 8, depth: null}}\n"


class Trained(Tiny):
    """Has weights of 50 steps."""

    trained_steps = 50


def shown(runs: Path) -> EventMultiplexer:
    """All that ``tensorboard --logdir runs`` finds."""
    return EventMultiplexer().AddRunsFromDirectory(str(runs)).Reload()


def scalars(events: EventMultiplexer, run: str, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in events.Scalars(run, tag)}


def work(run: Path, model: Tiny, *commands: str, logger: Any = None) -> CorrelationReport:
    """Run some commands, each with its own trainer, as separate processes would."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text(CONFIG)
    report = CorrelationReport(20)
    for command in commands:
        own = [RunLogger(run), *([logger] if logger else [])]
        one = trainer(run, report, ResourceMeter(), logger=own)
        if command == "fit":
            one.fit(model, loader(), loader())
        else:
            one.test(model, loader(), verbose=False)
    return report


def test_a_run_is_one_entry_with_its_tests_beside_its_curves(tmp_path: Path) -> None:
    report = work(tmp_path / "one", Tiny(conditions=("image", "text")), "fit", "test", "test")
    events = shown(tmp_path)
    assert set(events.Runs()) == {"one"}
    tags = events.Runs()["one"]
    assert {"train/loss", "val/srcc", "test/srcc", "test/csiq/text/rmse"} <= set(tags["scalars"])
    assert sorted(tags["images"]) == sorted(
        f"test/{dataset}{condition}" for dataset in ("csiq", "spaq") for condition in ("", "/text")
    )
    (mean,) = (r for r in report.results if r.is_mean and r.condition == "image")
    assert list(scalars(events, "one", "test/srcc").values()) == [
        pytest.approx(mean.correlations.srcc)
    ]
    assert not list(tmp_path.rglob("hparams.yaml"))


def test_a_run_has_one_line_of_hyperparameters_with_its_final_scores(tmp_path: Path) -> None:
    work(tmp_path / "run", Tiny(), "fit", "test", "test")
    events = shown(tmp_path)
    start = metadata.parse_session_start_info_plugin_data(
        events.SummaryMetadata("run", "_hparams_/session_start_info").plugin_data.content
    )
    assert {k: v.number_value or v.string_value for k, v in start.hparams.items()} == {
        "seed_everything": 1,
        "model": "Tiny",
        "model.width": 8,
    }
    table = metadata.parse_experiment_plugin_data(
        events.SummaryMetadata("run", "_hparams_/experiment").plugin_data.content
    )
    assert {info.name.tag for info in table.metric_infos} == set(HEADLINES)
    for tag in HEADLINES:
        last = events.Scalars("run", tag)[-1].value
        assert 0.5 < last < 1 and math.isfinite(last), tag


def test_a_test_lies_at_the_step_of_its_weights(tmp_path: Path) -> None:
    work(tmp_path / "run", Trained(), "test")
    events = shown(tmp_path)
    for tag in ("test/srcc", "test/csiq/plcc", "test/seconds"):
        assert list(scalars(events, "run", tag)) == [50], tag


def test_scores_from_texts_are_the_headline_where_there_are_no_others(tmp_path: Path) -> None:
    report = work(tmp_path / "run", Tiny(conditions=("text",)), "test")
    (mean,) = (r for r in report.results if r.is_mean)
    (value,) = scalars(shown(tmp_path), "run", "test/srcc").values()
    assert value == pytest.approx(mean.correlations.srcc)


def test_a_logger_beside_gets_the_same_scalars(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path / "run", name="csv", version="")
    work(tmp_path / "run", Tiny(), "test", logger=logger)
    header = (tmp_path / "run" / "csv" / "metrics.csv").read_text().partition("\n")[0].split(",")
    assert set(header) - {"step", "epoch"} == set(shown(tmp_path).Runs()["run"]["scalars"])


def test_a_fit_that_was_cut_off_has_its_line(tmp_path: Path) -> None:
    class Fails(Tiny):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        work(tmp_path / "run", Fails(), "fit")
    assert shown(tmp_path).SummaryMetadata("run", "_hparams_/session_start_info")
