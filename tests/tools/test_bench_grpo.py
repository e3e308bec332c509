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
    assert len(rows) == 24
    assert all(float(line["figure"]) >= 0 for line in rows.values())
    limited = {what: line["verdict"] for what, line in rows.items() if line["limit"]}
    assert len(limited) == 4
    assert set(limited.values()) == {"ok"}


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
