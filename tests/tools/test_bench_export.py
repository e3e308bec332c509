"""The benchmark of exported scorers: a run of everything at a small size."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from bench_path import imported

from lit_biqa.scoring.scorer import write_scorer


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from imported("bench_export", monkeypatch)


def test_the_scorer_of_a_run_scores_its_images_in_each_runtime(
    bench: ModuleType, tmp_path: Path
) -> None:
    run = importlib.import_module("bench_report").tested(tmp_path, 12)
    scorer = bench.random_scorer("test_efficientnet", 64)
    write_scorer(run / "scorer.safetensors", scorer.tower.state_dict(), scorer.head, scorer.encoder)
    rows = {row.what: row.figure for row in bench.measure(False, run)}
    assert rows["torch: SRCC of 12 images"] == rows["onnxruntime: SRCC of 12 images"]
    assert rows["torch: largest difference from torch"] == 0
    assert 0 < rows["onnxruntime: largest difference from torch"] < 1e-4
    assert rows["onnxruntime, int8: largest difference from torch"] > 1e-4


@pytest.mark.usefixtures("bench")
def test_a_small_run_measures_everything(tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    assert importlib.import_module("bench").main(["export", "--small", "--csv", str(file)]) == 0
    with file.open(newline="", encoding="utf-8") as lines:
        rows = {line["what"]: float(line["figure"]) for line in csv.DictReader(lines)}
    assert len(rows) == 2 + 2 * (3 + 2)
    assert all(value > 0 for value in rows.values())
    assert rows["size of the file: int8"] < rows["size of the file: float32"]
