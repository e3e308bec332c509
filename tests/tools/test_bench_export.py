"""The benchmark of exported scorers: a run of everything at a small size."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from bench_path import imported


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from imported("bench_export", monkeypatch)


@pytest.mark.usefixtures("bench")
def test_a_small_run_measures_everything(tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    assert importlib.import_module("bench").main(["export", "--small", "--csv", str(file)]) == 0
    with file.open(newline="", encoding="utf-8") as lines:
        rows = {line["what"]: float(line["figure"]) for line in csv.DictReader(lines)}
    assert len(rows) == 2 + 2 * (3 + 2)
    assert all(value > 0 for value in rows.values())
    assert rows["size of the file: int8"] < rows["size of the file: float32"]
