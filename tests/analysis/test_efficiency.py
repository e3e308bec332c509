"""Costs in turns, memory that is really taken, and ratios by hand."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import torch
from rated import given, loaded
from torch import nn

from lit_biqa.analysis.efficiency import (
    MODEL,
    SCORER,
    Cost,
    Runner,
    first_rows,
    measure,
    ratios,
    write_efficiency,
)
from lit_biqa.analysis.efficiency_figure import efficiency_figure
from lit_biqa.types import InputError, rows_of

CPU = torch.device("cpu")


def test_runs_take_turns_after_one_that_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def runner(name: str, seconds: float, tokens: int) -> Runner:
        def run(count: int) -> int:
            calls.append((name, count))
            clock[0] += seconds * count * (1 + len(calls) / 1000)
            return tokens * count

        return Runner(name, nn.Linear(3, 2), run)

    costs = measure([runner(SCORER, 1, 0), runner(MODEL, 20, 7)], (1, 4), 3, CPU)
    assert calls[:2] == [(SCORER, 1), (MODEL, 1)]  # memory
    assert calls[2:8] == [(SCORER, 1), (MODEL, 1)] * 3
    assert [(c.name, c.batch) for c in costs] == [(SCORER, 1), (MODEL, 1), (SCORER, 4), (MODEL, 4)]
    assert costs[0].seconds[0] == pytest.approx(1.003)
    assert (costs[3].tokens, costs[3].parameters) == (7, 8)
    assert ratios(costs)[1].time == pytest.approx(1 / 20, rel=0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_is_what_a_run_takes() -> None:
    def run(count: int) -> int:
        torch.ones(count, 2**18)  # one MiB each
        return 0

    module = nn.Linear(1024, 1024, bias=False)  # 4 MiB
    small, large = (
        measure([Runner(SCORER, module, run)], (size,), 1, CPU)[0].memory * 1024
        for size in (1, 200)
    )
    assert 4 <= small < 60
    assert 190 < large - small < 260


def costs() -> list[Cost]:
    return [
        Cost(SCORER, 3_000_000, 2, [0.1, 0.2, 0.1], 0.5, 0.0),
        Cost(MODEL, 60_000_000, 2, [2.0, 2.0, 5.0], 2.0, 80.0),
    ]


def test_ratios_by_hand(tmp_path: Path) -> None:
    (ratio,) = ratios(costs())
    assert (ratio.parameters, ratio.memory) == (0.05, 0.25)
    assert ratio.seconds == pytest.approx([0.05, 0.1, 0.02])
    assert ratio.time == pytest.approx(0.05)
    write_efficiency(tmp_path, costs(), "CPU, 1 thread")
    with (tmp_path / "efficiency.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["what"] for row in rows] == [SCORER, MODEL, "ratio"]
    assert float(rows[1]["seconds_per_image"]) == 2.0
    assert float(rows[2]["seconds_max"]) == pytest.approx(0.1)
    title = efficiency_figure(costs(), "run", "CPU, 1 thread").get_suptitle()
    assert "at a batch of 2 it takes 25% of the memory" in title
    assert "5% of the time and 5% of the parameters (CPU, 1 thread; 3 runs each" in title


def test_rows_of_several_batches_become_one() -> None:
    batch = given(loaded("timm"))
    whole = first_rows(iter([batch, batch]), 5)
    assert whole["mos"].tolist() == [1.0, 3.0, 5.0, 1.0, 3.0]
    assert [sample.index for sample in whole["samples"]] == [0, 1, 2, 0, 1]
    assert rows_of(whole, slice(2))["name"] == ["a.png", "b.png"]
    with pytest.raises(InputError, match="there are 3 images for a batch of 4"):
        first_rows(iter([batch]), 4)
