"""The measurements for a GPU: each part at a small size on the CPU, its file, and the tables."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from bench_path import imported

from lit_biqa.backbones.tuning import Tuning


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from imported("gpu", monkeypatch)


def measured(gpu: ModuleType, part: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """File that a small part has written, and its rows by name."""
    assert gpu.main([part, "--small", "--out", str(folder)]) == 0
    told = json.loads((folder / f"{part}.json").read_text(encoding="utf-8"))
    assert told["part"] == part
    assert told["small"] is True
    assert told["device"] == "CPU"
    assert told["versions"]["torch"] == torch.__version__
    assert told["host_memory_gib"] > 0
    rows = {row["what"]: row for row in told["rows"]}
    assert list(rows)[-1] == "whole part"
    return told, rows


def test_rali_is_measured(gpu: ModuleType, tmp_path: Path) -> None:
    told, rows = measured(gpu, "rali", tmp_path)
    assert told["settings"]["batches"] == [1, 2]
    assert list(rows)[:2] == ["RALI: pixels to scores, batch 1", "RALI: peak memory, batch 1"]
    assert rows["RALI: scoring over encoder, batch 2"]["figure"] > 1
    assert rows["RALI: encoder busy, workers 0"]["figure"] < 1
    assert all(row["figure"] > 0 for row in rows.values())


def test_grpo_is_measured_by_phases_beside_trl(gpu: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="pip install 'lit_biqa[bench]' to compare with TRL")
    told, rows = measured(gpu, "grpo-3b", tmp_path)
    assert told["settings"]["rows_at_once"] == 2
    assert all(row["figure"] > 0 for row in rows.values())
    of = ("step", "completions", "peak memory")
    assert {f"{who}: {what}" for who in ("ours", "TRL") for what in of} < set(rows)
    phases = [rows[f"ours: last step: {name}"]["figure"] for name in ("rollout", "reference")]
    assert sum(phases) < rows["ours: step"]["figure"]
    ratio = rows["completions per second, ours over TRL"]["figure"]
    assert ratio == pytest.approx(rows["TRL: step"]["figure"] / rows["ours: step"]["figure"])


def test_grpo_says_that_trl_is_not_there_or_that_memory_was_out(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grpo = importlib.import_module("gpu_grpo")
    monkeypatch.setattr(grpo, "trl_is_there", lambda: False)

    def refused(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(grpo, "timed", refused)
    rows = list(grpo.SMALL.measure(torch.device("cpu"), tmp_path))
    verdicts = {row.what: row.verdict for row in rows}
    assert verdicts["ours: step"] == "not measured: out of memory"
    assert verdicts["TRL: step"].startswith("not measured: TRL is not installed (pip install")
    assert verdicts["completions per second, ours over TRL"] == "not measured: out of memory"


def test_owl2_is_measured(gpu: ModuleType, tmp_path: Path) -> None:
    _, rows = measured(gpu, "owl2", tmp_path)
    assert list(rows) == ["training", "peak memory", "whole part"]
    assert all(row["figure"] > 0 for row in rows.values())


def test_efficiency_is_measured(gpu: ModuleType, tmp_path: Path) -> None:
    _, rows = measured(gpu, "efficiency", tmp_path)
    of = rows["batch 2: RALI, time"]["figure"], rows["batch 2: reasoning model, time"]["figure"]
    # With a single repetition the median ratio is that of the two times.
    share = rows["batch 2: time, RALI over the reasoning model"]["figure"]
    assert share == pytest.approx(of[0] / of[1])
    assert len(rows) == 13


def test_without_a_device_it_ends_with_one_line(
    gpu: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for command in ("rali", "all"):
        assert gpu.main([command, "--out", str(tmp_path / "new")]) == 2
        said = capsys.readouterr().err
        assert said.startswith("no CUDA device is here")
        assert said.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_file_is_written_whole_and_not_overwritten(
    gpu: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    owl2 = importlib.import_module("gpu_owl2")
    row = importlib.import_module("bench_rows").Row
    command = ["owl2", "--small", "--out", str(tmp_path)]

    def once(*_: object) -> Iterator[Any]:
        yield row("training", 1.0, "tokens/s", 0.5)

    def broken(*_: object) -> Iterator[Any]:
        yield row("training", 2.0, "tokens/s")
        raise RuntimeError("the device was lost")

    monkeypatch.setattr(owl2.Plan, "measure", broken)
    with pytest.raises(RuntimeError, match="was lost"):
        gpu.main(command)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(owl2.Plan, "measure", once)
    assert gpu.main(command) == 1  # beyond its limit
    first = (tmp_path / "owl2.json").read_bytes()
    assert gpu.main(command) == 2
    assert "owl2.json is there already" in capsys.readouterr().err
    assert (tmp_path / "owl2.json").read_bytes() == first
    assert gpu.main([*command, "--overwrite"]) == 1


def test_all_runs_the_parts_that_have_no_file_each_in_a_process(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    class Ended:
        returncode = 1

    def run(words: list[str]) -> Ended:
        seen.append(words[2:])
        return Ended()

    monkeypatch.setattr(gpu.subprocess, "run", run)
    for part in ("rali", "grpo-3b", "grpo-7b"):
        (tmp_path / f"{part}.json").touch()
    assert gpu.main(["all", "--small", "--out", str(tmp_path)]) == 1
    options = ["--out", str(tmp_path), "--small"]
    assert seen == [["owl2", *options], ["efficiency", *options]]


def test_tables_come_of_the_files_alone(
    gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Columns of several parts share their rows; what is absent says how to measure it."""
    row = importlib.import_module("bench_rows").Row
    grpo = importlib.import_module("gpu_grpo")
    rows = [
        row("ours: completions", 12345.6, "tokens/s"),
        row("TRL: step", None, "s", why="out of memory"),
        row("whole part", 700.0, "s", 600),
    ]
    told = gpu.record("grpo-7b", replace(grpo.SMALL, group=7), True, rows)
    (tmp_path / "grpo-7b.json").write_text(json.dumps(told), encoding="utf-8")
    assert gpu.main(["tables", str(tmp_path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    absent = "not measured: `python tools/bench/gpu.py {}`"
    assert "| what | 3B | 7B | limit |" in shown
    assert f"| ours: completions | {absent.format('grpo-3b')} | 12,346 tokens/s |  |" in shown
    assert f"| TRL: step | {absent.format('grpo-3b')} | not measured: out of memory |  |" in shown
    assert f"| whole part | {absent.format('grpo-3b')} | 700 s (over) | ≤ 600 |" in shown
    for part in ("rali", "owl2", "efficiency"):
        assert f"| all figures | {absent.format(part)} |  |" in shown
    where = next(line for line in shown if line.startswith("`python tools/bench/gpu.py grpo-7b`"))
    assert "small, which is no result: CPU, torch" in where
    assert "group 7" in where
    assert "sizes.sections 2/1/1" in where
    (tmp_path / "rali.json").write_text('{"rows": [{"wrong": 1}]}', encoding="utf-8")
    assert gpu.main(["tables", str(tmp_path)]) == 2
    assert "rali.json is no file of gpu.py" in capsys.readouterr().err
    assert gpu.main(["tables", str(tmp_path / "absent")]) == 2


@pytest.mark.parametrize(("name", "billions"), [("QWEN_3B", 3.75), ("QWEN_7B", 8.29)])
def test_real_sizes_are_those_of_the_papers(
    gpu: ModuleType, tmp_path: Path, name: str, billions: float
) -> None:
    """Parameters, the tower's among them; here on no device at all."""
    models, data = (importlib.import_module(each) for each in ("gpu_models", "bench_data"))
    words = data.made_up_words(tmp_path, 100)
    tuning = Tuning("lora", parts=("language",), precision="bfloat16")
    model = models.SizedQwen(getattr(models, name), torch.device("meta"), words, tuning, 504 * 392)
    model.prepare()
    made = model._read()
    assert round(sum(p.numel() for p in made.parameters()) / 1e9, 2) == billions
    assert round(sum(p.numel() for p in made.model.visual.parameters()) / 1e9, 2) in (0.67, 0.68)
    assert {p.dtype for p in made.parameters()} == {torch.bfloat16}
    # Rotary frequencies are never in bfloat16, in which positions would coincide.
    frequencies = [b for name, b in made.named_buffers() if name.endswith("inv_freq")]
    assert {b.dtype for b in frequencies} == {torch.float32}


def test_the_real_owl_is_the_papers(gpu: ModuleType, tmp_path: Path) -> None:
    """8.2 billion parameters, 65 positions for an image; here on no device at all."""
    models, data = (importlib.import_module(each) for each in ("gpu_models", "bench_data"))
    words = data.made_up_words(tmp_path, 100)
    model = models.SizedOwl(True, torch.device("meta"), words, Tuning(precision="bfloat16"))
    model.prepare()
    made = model._read()
    assert round(sum(p.numel() for p in made.parameters()) / 1e9, 1) == 8.2
    assert model.positions_per_image == 65


def test_memory_of_a_device_is_counted_within_the_context(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    meters = importlib.import_module("bench_meters")
    times, calls = iter([1.0, 3.5]), list[torch.device]()
    monkeypatch.setattr(meters, "mark", lambda device: next(times))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", calls.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**29)
    with (meter := meters.DeviceMeter(device := torch.device("cuda"))):
        assert calls == [device]
    assert (meter.seconds, meter.peak) == (2.5, 3 * 2**29)
