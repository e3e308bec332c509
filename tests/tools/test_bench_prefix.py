"""The benchmark of shared prompts: a run of everything at a small size."""

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
def prefix(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from imported("bench_prefix", monkeypatch)


def test_a_small_run_measures_everything(prefix: ModuleType, tmp_path: Path) -> None:
    """All ways of sharing a prompt have the gradients of copies of it."""
    pytest.importorskip("prefix_grouper", reason="pip install 'lit_biqa[bench]' to compare with it")
    file = tmp_path / "prefix.csv"
    assert importlib.import_module("bench").main(["prefix", "--small", "--csv", str(file)]) == 0
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 19
    assert all(float(row["figure"]) > 0 for row in rows if row["unit"] in ("s", "MiB"))
    limited = [row for row in rows if row["limit"]]
    assert len(limited) == 3
    assert {row["verdict"] for row in limited} == {"ok"}


def test_causal_attention_of_the_last_positions(prefix: ModuleType) -> None:
    """Two queries at the end of three keys: the first sees two of them."""
    values = torch.tensor([1.0, 2.0, 6.0]).view(1, 1, 3, 1)
    found, _ = prefix.causal_sdpa(torch.nn.Identity(), torch.zeros(1, 1, 2, 1), values * 0, values)
    assert found.flatten().tolist() == pytest.approx([1.5, 3.0])
