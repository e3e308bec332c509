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
from bench_path import imported
from PIL import Image

from lit_biqa.types import InputError


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from imported("bench", monkeypatch)


def test_verdicts(bench: ModuleType) -> None:
    row = bench.Row
    assert row("cost", 1.02, "", 1.03).verdict == "ok"
    assert row("cost", 1.04, "", 1.03).verdict == "over"
    assert row("busy", 0.91, "", 0.9, least=True).verdict == "ok"
    assert row("busy", 0.89, "", 0.9, least=True).verdict == "under"
    assert row("rate", 20.0, "images/s").verdict == ""
    assert row("memory", None, "GiB", 4).verdict == "not measured"
    assert row("step", None, why="out of memory").verdict == "not measured: out of memory"
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
    with pytest.raises(InputError, match="hold no image"):
        next(rali.measure(True, tmp_path))
    Image.new("RGB", (60, 40)).save(tmp_path / "one.png")
    assert next(rali.measure(True, tmp_path)).figure > 1
    assert bench.main(["rali", "--small", "--images", str(tmp_path / "absent")]) == 2


def test_made_images_are_photographs_in_size(bench: ModuleType, tmp_path: Path) -> None:
    rali = importlib.import_module("bench_rali")
    files = rali.make_images(tmp_path, 3)
    assert [Image.open(file).size for file in files] == [(512, 384)] * 3
    assert len({file.read_bytes() for file in files}) == 3
    assert all(20_000 < file.stat().st_size < 300_000 for file in files)


def test_a_small_run_of_tuning_measures_everything(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both sides have the same loss of a batch; of speed nothing is said at this size."""
    file = tmp_path / "sft.csv"
    assert bench.main(["sft", "--small", "--csv", str(file)]) == 0
    assert torch.__version__ in capsys.readouterr().out
    with file.open(newline="", encoding="utf-8") as lines:
        rows = {line["what"]: line for line in csv.DictReader(lines)}
    assert len(rows) == 28
    assert all(float(line["figure"]) >= 0 for line in rows.values())
    limited = {what: line["verdict"] for what, line in rows.items() if line["limit"]}
    assert len(limited) == 4
    assert set(limited.values()) == {"ok"}
    assert sum("losses of one batch" in what for what in limited) == 2


@pytest.mark.parametrize(
    ("part", "advice"),
    [
        ("sft", "accelerate: pip install 'lit_biqa[bench]'"),
        ("grpo", "pip install 'lit_biqa[bench]', or trl"),
        ("pretrained", "pip install 'lit_biqa[bench]', or trl"),
        ("prefix", "pip install 'lit_biqa[bench]'"),
    ],
)
def test_nothing_is_compared_without_the_other_package(
    part: str,
    advice: str,
    bench: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    importlib.import_module(f"bench_{part}")  # libraries that look for others do so before
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert bench.main([part, "--small"]) == 2
    assert advice in capsys.readouterr().err


def test_meters_count(bench: ModuleType) -> None:
    meters = importlib.import_module("bench_meters")
    with (allocated := meters.Allocated()):
        first = torch.empty(1000)
        second = torch.empty(500)
        del first, second
        del_after = torch.empty(1200)
    assert allocated.peak == 4 * 1500
    assert del_after.nbytes == 4 * 1200
    times = iter([3.0, 4.5, 10.0, 10.25])
    clock = meters.Clock(lambda: next(times))
    for seconds in (1.5, 0.25):
        with clock:
            pass
        assert clock.seconds == seconds
    told = iter([1.0, 10.0, 2.0, 30.0, 3.0, 60.0])
    turns = meters.by_turns([lambda: next(told)] * 2, 3)
    assert turns == [[1.0, 2.0, 3.0], [10.0, 30.0, 60.0]]
    assert meters.over(turns[1], turns[0]) == 15


def test_start_up_is_measured_against_bare_imports(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The commands are real ones; what each takes is told by turns."""
    startup = importlib.import_module("bench_startup")
    seen: list[tuple[str, ...]] = []

    def run(words: list[str], status: int) -> float:
        seen.append((*words[1:4], str(status)))
        return {"-m": 3.0, "-c": 2.0}[words[1]]

    monkeypatch.setattr(startup, "run", run)
    score, fit, usage = startup.measure(True)
    assert (score.figure, score.limit, score.verdict) == (1.5, 2, "ok")
    assert (fit.figure, fit.limit, fit.verdict) == (1.5, 1.15, "over")
    assert (usage.figure, usage.verdict) == (3.0, "")
    assert seen[:2] == [("-m", "lit_biqa", "score", "0"), ("-c", "import torch", "0")]
    assert seen[-1] == ("-m", "lit_biqa", "--help", "0")
    monkeypatch.undo()
    assert startup.run([sys.executable, "-c", "raise SystemExit(2)"], 2) > 0
    with pytest.raises(RuntimeError, match="ended with 3"):
        startup.run([sys.executable, "-c", "raise SystemExit(3)"], 0)
    file = tmp_path / "scorer.safetensors"
    startup.write_quickstart_like(file)
    Image.new("RGB", (60, 40)).save(tmp_path / "photo.jpg")
    command = startup.command("score", str(tmp_path / "photo.jpg"), "--scorer", str(file))
    assert command() > 0
