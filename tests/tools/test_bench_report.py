"""A small run of the measurement of reports."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path

import pytest
from bench_path import TOOLS


def test_a_small_report_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    if not importlib.import_module("bench_report").CHROMIUM.exists():
        pytest.skip("no browser: apt-get install chromium")
    file = tmp_path / "report.csv"
    assert importlib.import_module("bench").main(["report", "--small", "--csv", str(file)]) == 0
    assert "all charts" in capsys.readouterr().out
    with file.open(newline="", encoding="utf-8") as lines:
        rows = {line["what"].partition(": ")[2]: line for line in csv.DictReader(lines)}
    assert float(rows["first chart"]["figure"]) <= float(rows["all charts"]["figure"])
    assert rows["size"]["verdict"] == "ok"
