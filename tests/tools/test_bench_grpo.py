"""The benchmark of GRPO: a run of everything at a small size, and what it rests on."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from bench_path import imported

from lit_biqa.backbones.tuning import Tuning


@pytest.fixture
def grpo(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from imported("bench_grpo", monkeypatch)


def test_a_small_run_measures_everything(
    grpo: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two steps on the same completions end in the same weights as TRL's, full and with LoRA."""
    pytest.importorskip("trl", reason="pip install 'lit_biqa[bench]' to compare with TRL")
    file = tmp_path / "grpo.csv"
    assert importlib.import_module("bench").main(["grpo", "--small", "--csv", str(file)]) == 0
    assert torch.__version__ in capsys.readouterr().out
    with file.open(newline="", encoding="utf-8") as lines:
        rows = {line["what"]: line for line in csv.DictReader(lines)}
    assert len(rows) == 30
    here = {what: line for what, line in rows.items() if "CUDA" not in what}
    assert all(float(line["figure"]) >= 0 for line in here.values())
    limited = {what: line["verdict"] for what, line in here.items() if line["limit"]}
    assert len(limited) == 4
    assert set(limited.values()) == {"ok"}


def test_steps_are_not_compared_without_trl(
    grpo: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert importlib.import_module("bench").main(["grpo", "--small"]) == 2
    assert "pip install 'lit_biqa[bench]', or trl" in capsys.readouterr().err


def test_no_completion_ends_early(grpo: ModuleType, tmp_path: Path) -> None:
    words = grpo.made_up_words(tmp_path, 100)
    model = grpo.SMALL.model(words)
    model.load()
    special = list(model.tokenizer.added_tokens_decoder)
    assert set(model.end) < set(special)
    answers = grpo.generate(model, [grpo.ask("What?")], 50, grpo.Sampling(budget=40))[0]
    assert {len(answer.ids) for answer in answers} == {40}
    assert not {token for answer in answers for token in answer.ids} & set(special)
    even = importlib.import_module("bench_steps").Even(4)
    assert even.of([[2, 4, 5, 8], [1, 3, 5, 7]]) == [0.75, 0]
    with pytest.raises(RuntimeError, match="not as long as forced"):
        even.of([[2, 4, 5]])


def test_the_real_size_is_the_3b(grpo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """3.75 billion parameters, the tower's among them; here on no device at all."""
    steps = importlib.import_module("bench_steps")
    monkeypatch.setattr(steps, "CUDA", torch.device("meta"))
    model = steps.RealSize()
    model.prepare()
    made = model._read()
    assert round(sum(p.numel() for p in made.parameters()) / 1e9, 2) == 3.75
    assert round(sum(p.numel() for p in made.model.visual.parameters()) / 1e9, 2) == 0.67


def test_the_real_size_is_measured_on_whatever_device(
    grpo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without CUDA the same rows say that they were not measured."""
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**29)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    data, steps, rali = (
        importlib.import_module(f"bench_{name}") for name in ("data", "steps", "rali")
    )
    plan, words, images = (
        grpo.SMALL,
        data.made_up_words(tmp_path, 100),
        rali.make_images(tmp_path, 2),
    )
    model = plan.model(words, Tuning("lora", parts=("language",), precision="bfloat16", rank=2))
    work = steps.Steps(images, plan.group, plan.budget)
    name = "Qwen2.5-VL 3B, LoRA, bf16, CUDA"
    rows = list(grpo.lora(name, steps.Ours(model, work, tmp_path, "cpu", "bf16-mixed")))
    assert rows[0].figure > sum(row.figure for row in rows[1:4])
    assert all(row.figure > 0 for row in rows)
    assert (rows[-1].figure, rows[-1].unit) == (1.5, "GiB")
    absent = list(grpo.on_cuda(plan, words, images, tmp_path))
    assert [row.what for row in absent] == [row.what for row in rows]
    assert {row.verdict for row in absent} == {"not measured"}
