"""The benchmark of pretrained weights: a run of everything at a small size, without packages."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from bench_path import imported

from lit_biqa.types import ask


@pytest.fixture
def pretrained(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from imported("bench_pretrained", monkeypatch)


def test_a_small_run_measures_everything(
    pretrained: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two steps on the same completions of texts end in the same weights as TRL's.

    Here as on a processor without bfloat16, whose rows say that they were not measured.
    """
    pytest.importorskip("trl", reason="pip install 'lit_biqa[bench]' to compare with TRL")
    monkeypatch.setattr(pretrained, "cpu_has_bfloat16", lambda: False)
    file = tmp_path / "pretrained.csv"
    assert importlib.import_module("bench").main(["pretrained", "--small", "--csv", str(file)]) == 0
    assert torch.__version__ in capsys.readouterr().out
    with file.open(newline="", encoding="utf-8") as lines:
        rows = {line["what"]: line for line in csv.DictReader(lines)}
    assert len(rows) == 20
    absent = {what for what, line in rows.items() if line["verdict"] == "not measured"}
    assert absent == {what for what in rows if "bfloat16" in what}
    assert len(absent) == 4
    assert all(float(line["figure"]) >= 0 for what, line in rows.items() if what not in absent)
    limited = {what: line["verdict"] for what, line in rows.items() if line["limit"]}
    assert len(limited) == 2
    assert set(limited.values()) == {"ok"}
    for name in ("small, full, float32", "smol, LoRA, float32"):
        seconds = {w: float(line["figure"]) for w, line in rows.items() if f"of {name}" in w}
        (whole,) = (spent for what, spent in seconds.items() if "tokens" in what)
        assert len(seconds) == 4
        assert whole > sum(seconds.values()) - whole > 0


def test_towers_are_measured_in_bfloat16_where_there_is_any(
    pretrained: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pretrained, "cpu_has_bfloat16", lambda: True)
    weights = pretrained.random_weights(tmp_path)
    rows = list(pretrained.networks(pretrained.SMALL, weights.image))
    assert [row.what.split(": ")[1] for row in rows[:3]] == [
        *("bfloat16", "float32"),
        "bfloat16 over float32",
    ]
    assert all(row.figure > 0 for row in rows)


def test_no_answer_ends_early_and_texts_have_their_length(
    pretrained: ModuleType, tmp_path: Path
) -> None:
    weights = pretrained.random_weights(tmp_path)
    tuning = pretrained.lora(("language",), "float32")
    model = weights.chat(tuning, size=64)
    texts = pretrained.digits(model, 2, 50)
    assert len(set(texts)) == 2
    assert [len(model.encode_prompt(ask(text)).ids) for text in texts] == [50, 50]
    assert model.end == ()
    assert (tuning.rank, tuning.alpha) == (16, 32)
