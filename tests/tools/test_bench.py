"""The benchmark: its verdicts, and a run of everything at a small size."""

from __future__ import annotations

import csv
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from lit_biqa.backbones.tiny import TinyClip
from lit_biqa.prototypes import HeadSettings
from lit_biqa.types import InputError

TOOLS = Path(__file__).resolve().parents[2] / "tools"
NAMES = ("bench", "bench_rows", "bench_rali")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(TOOLS))
    yield importlib.import_module("bench")
    for name in NAMES:
        sys.modules.pop(name, None)


def test_verdicts(bench: ModuleType) -> None:
    row = bench.Row
    assert row("cost", 1.02, "", 1.03).verdict == "ok"
    assert row("cost", 1.04, "", 1.03).verdict == "over"
    assert row("busy", 0.91, "", 0.9, least=True).verdict == "ok"
    assert row("busy", 0.89, "", 0.9, least=True).verdict == "under"
    assert row("rate", 20.0, "images/s").verdict == ""
    assert row("memory", None, "GiB", 4).verdict == "not measured"
    assert row("busy", 0.89, "", 0.9, least=True).cells() == (
        "busy",
        "0.8900",
        "",
        "≥ 0.9",
        "under",
    )
    assert row("time", 12.345, "s", 10).cells() == ("time", "12.3", "s", "≤ 10", "over")


def test_a_small_run_measures_everything(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rali.csv"
    assert bench.main(["rali", "--small", "--csv", str(file)]) == 0
    shown = capsys.readouterr().out
    assert torch.__version__ in shown
    with file.open(newline="", encoding="utf-8") as lines:
        rows = {line["what"]: line for line in csv.DictReader(lines)}
    assert len(rows) == 8
    assert all(what in shown for what in rows)
    figures = {what: float(line["figure"]) for what, line in rows.items()}
    assert all(value > 0 for value in figures.values())
    for what, value in figures.items():
        if "scoring over encoder" in what:
            assert value > 1
        if "encoder busy" in what:
            assert value < 1
    assert [line["verdict"] for line in rows.values()][-2:] == ["ok", "ok"]


def test_a_figure_beyond_its_limit_is_told_by_the_status(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [bench.Row("cost", 1.5, "", 1.03), bench.Row("memory", None)]
    monkeypatch.setattr(importlib.import_module("bench_rali"), "measure", lambda *_: rows)
    assert bench.main(["rali"]) == 1
    assert "over" in (shown := capsys.readouterr().out)
    assert "not measured" in shown


def test_images_of_ones_own_are_read(bench: ModuleType, tmp_path: Path) -> None:
    rali = importlib.import_module("bench_rali")
    with pytest.raises(InputError, match="no image in it"):
        next(rali.measure(True, tmp_path))
    Image.new("RGB", (60, 40)).save(tmp_path / "one.png")
    assert next(rali.measure(True, tmp_path)).figure > 1
    assert bench.main(["rali", "--small", "--images", str(tmp_path / "absent")]) == 2


def test_without_cuda_its_rows_are_not_measured(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rali = importlib.import_module("bench_rali")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rows = list(rali.on_cuda([]))
    assert {row.verdict for row in rows} == {"not measured"}
    assert all("CUDA" in row.what for row in rows)


def test_throughput_counts_images_and_peak_memory(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rali = importlib.import_module("bench_rali")
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**29)
    head = HeadSettings(pca=8, prototypes=10, buckets=5)
    plan = rali.Plan("tiny", rali.CPU, TinyClip(dim=16, width=8, size=32), head, repeats=2)
    rate, memory = rali.throughput(plan, (3,))
    assert rate.what.endswith("batch 3")
    assert rate.figure > 0
    assert (memory.figure, memory.unit) == (1.5, "GiB")


def test_made_images_are_photographs_in_size(bench: ModuleType, tmp_path: Path) -> None:
    rali = importlib.import_module("bench_rali")
    files = rali.make_images(tmp_path, 3)
    assert [Image.open(file).size for file in files] == [(512, 384)] * 3
    assert len({file.read_bytes() for file in files}) == 3
    assert all(20_000 < file.stat().st_size < 300_000 for file in files)
