"""Files of several tests and predictions in one folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from known_scores import Tiny, lines, loader, trainer, uneven_loader

from lit_biqa.callbacks import (
    CorrelationReport,
    OverlapReport,
    PredictionWriter,
    ResourceMeter,
)
from lit_biqa.callbacks.tensorboard import RunLogger
from lit_biqa.callbacks.weights import weights_of
from lit_biqa.evaluation.report import read_results
from lit_biqa.io.digests import digest_of
from lit_biqa.types import Batch, InputError, Prediction

ZERO, ONE = (digest_of({"weight": torch.tensor([value])})[:12] for value in (0.0, 1.0))


class OnSet(Tiny):
    """Tells the rows of one data set alone, under a split and with a weight of choice."""

    def __init__(self, dataset: str, split: str = "all@1", weight: float = 0.0) -> None:
        super().__init__()
        self.dataset, self.split = dataset, split
        self.weight.data.fill_(weight)

    def rows(self, batch: Batch) -> list[Prediction]:
        rows = [row for row in super().rows(batch) if row.dataset == self.dataset]
        return [replace(row, split=self.split) for row in rows]


class Never(Tiny):
    """Reads no weights."""

    def configure_model(self) -> None:
        raise AssertionError("weights are read")


def measure(folder: Path, model: Tiny) -> None:
    callbacks = CorrelationReport(0), OverlapReport(), ResourceMeter()
    trainer(folder, *callbacks).test(model, loader(), verbose=False)


def figures(folder: Path) -> set[str]:
    return {path.name for path in (folder / "test").glob("*.png")}


def test_tests_of_other_sets_end_as_one_test_of_all(tmp_path: Path) -> None:
    measure(tmp_path / "all", Tiny())
    for dataset in ("spaq", "csiq"):
        measure(tmp_path / "parts", OnSet(dataset))
    for name in ("results.csv", "predictions.csv", "csiq.png", "spaq.png"):
        one, two = ((tmp_path / run / "test" / name).read_bytes() for run in ("all", "parts"))
        assert one == two, name
    costs = lines(tmp_path / "parts" / "test" / "costs.csv")
    assert [line["datasets"] for line in costs] == ["spaq/all@1", "csiq/all@1"]
    # The same test once more changes nothing but what it took.
    before = (tmp_path / "parts" / "test" / "results.csv").read_bytes()
    measure(tmp_path / "parts", OnSet("csiq"))
    assert (tmp_path / "parts" / "test" / "results.csv").read_bytes() == before
    assert len(lines(tmp_path / "parts" / "test" / "costs.csv")) == 2


def test_other_weights_stand_beside(tmp_path: Path) -> None:
    measure(tmp_path, OnSet("csiq"))
    drawn = (tmp_path / "test" / "csiq.png").read_bytes()
    measure(tmp_path, OnSet("csiq", weight=1.0))
    results = read_results(tmp_path / "test" / "results.csv")
    assert [(r.dataset, r.weights) for r in results] == [("csiq", ZERO), ("csiq", ONE)]
    assert figures(tmp_path) == {"csiq.png", f"csiq-{ONE}.png"}
    assert (tmp_path / "test" / "csiq.png").read_bytes() == drawn
    found = lines(tmp_path / "test" / "predictions.csv")
    assert {row["weights"] for row in found} == {ZERO, ONE}
    assert [line["weights"] for line in lines(tmp_path / "test" / "costs.csv")] == [ZERO, ONE]


def test_a_scatter_goes_by_the_name_of_its_line_and_is_drawn_anew_with_its_rows(
    tmp_path: Path,
) -> None:
    measure(tmp_path, OnSet("csiq", "all@1"))
    drawn = (tmp_path / "test" / "csiq.png").read_bytes()
    measure(tmp_path, OnSet("csiq", "half@2"))
    assert figures(tmp_path) == {"csiq-all-1.png", "csiq-half-2.png"}
    assert (tmp_path / "test" / "csiq-all-1.png").read_bytes() == drawn

    class Otherwise(OnSet):
        def rows(self, batch: Batch) -> list[Prediction]:
            return [replace(row, score=6 - row.score) for row in super().rows(batch)]

    measure(tmp_path, Otherwise("csiq", "all@1"))
    assert figures(tmp_path) == {"csiq-all-1.png", "csiq-half-2.png"}
    assert (tmp_path / "test" / "csiq-all-1.png").read_bytes() != drawn


def test_a_scatter_that_cannot_be_written_hides_no_results(tmp_path: Path) -> None:
    for name in ("csiq.png", "csiq-all-1.png"):  # the one to be written, and a name to come
        (tmp_path / name / "test" / name).mkdir(parents=True)
        with pytest.raises(InputError, match=rf"{name} cannot be written") as raised:
            for split in ("all@1", "half@2"):
                measure(tmp_path / name, OnSet("csiq", split))
        assert "results.csv and predictions.csv hold this test already" in str(raised.value)
        found = read_results(tmp_path / name / "test" / "results.csv")
        held = [r for r in found if not r.is_derived]
        rows = lines(tmp_path / name / "test" / "predictions.csv")
        assert {r.split for r in held} == {row["split"] for row in rows}
        assert {r.correlations.n for r in held} == {15}
        assert list((tmp_path / name / "test" / name).iterdir()) == []


def test_a_name_with_signs_of_the_dollar_is_no_formula(tmp_path: Path) -> None:
    class Named(Tiny):
        def rows(self, batch: Batch) -> list[Prediction]:
            return [replace(row, dataset=r"$\frac$") for row in super().rows(batch)]

    measure(tmp_path, Named())
    assert figures(tmp_path) == {r"$\frac$.png"}


def test_events_of_a_fit_and_of_every_test_remain(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def logger() -> RunLogger:
        return RunLogger(tmp_path)

    def losses() -> list[float]:
        events = EventAccumulator(str(tmp_path)).Reload()
        return [event.value for event in events.Scalars("train/loss")]

    run = trainer(tmp_path, CorrelationReport(0), ResourceMeter(), logger=logger())
    model = OnSet("csiq")
    run.fit(model, loader(), loader())
    run.test(model, loader(), verbose=False)
    held = {path: path.read_bytes() for path in tmp_path.rglob("events*")}
    logged = losses()
    assert len(logged) == 12
    for dataset in ("csiq", "spaq"):
        again = trainer(tmp_path, CorrelationReport(0), ResourceMeter(), logger=logger())
        again.test(OnSet(dataset, weight=1.0), loader(), verbose=False)
    assert all(path.read_bytes() == content for path, content in held.items())
    assert losses() == logged
    assert {path.parent for path in tmp_path.rglob("events*")} == {tmp_path}


def test_predictions_of_other_weights_stand_beside_and_the_same_are_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for weight in (0.0, 1.0, 0.0):
        run = trainer(tmp_path, PredictionWriter())
        run.predict(OnSet("csiq", weight=weight), uneven_loader(0, 1), return_predictions=False)
    found = [row["weights"] for row in lines(tmp_path / "predictions.csv")]
    assert found == [ZERO] * 15 + [ONE] * 15
    told = [
        s for s in capsys.readouterr().out.splitlines() if s.startswith("predictions.csv existed")
    ]
    assert told == [
        f"predictions.csv existed: {rows} of other images or weights kept"
        for rows in ("0 rows replaced, 15 added, 15", "15 rows replaced, 0 added, 15")
    ]


@pytest.mark.parametrize("name", ["results.csv", "predictions.csv", "costs.csv", "rouge.csv"])
def test_a_store_that_cannot_be_read_stops_a_test_before_it_begins(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / name).write_text("cut off")
    with pytest.raises(InputError, match=name):
        measure(tmp_path, Never())
    assert [path.name for path in (tmp_path / "test").iterdir()] == [name]


@pytest.mark.parametrize("content", [b"", b"cut off", b"what,images\nfit\n", b"\xff\xfe", None])
def test_costs_that_cannot_be_added_to_stop_a_fit_before_it_begins(
    tmp_path: Path, content: bytes | None
) -> None:
    costs = tmp_path / "costs.csv"
    if content is None:
        os.mkfifo(costs)  # who opened it would wait for ever
    else:
        costs.write_bytes(content)
    with pytest.raises(InputError, match=r"costs\.csv"):
        trainer(tmp_path, ResourceMeter()).fit(Never(), loader(), loader())
    assert list(tmp_path.iterdir()) == [costs]


def test_weights_are_told_by_their_bits_alone() -> None:
    assert weights_of(OnSet("csiq")) == weights_of(Tiny()) == ZERO
    assert weights_of(OnSet("csiq", weight=1.0)) == ONE
