"""The page for Python users: its code runs, in its order, and prints what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "python.md"


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 6
    monkeypatch.chdir(tmp_path)
    # What the page takes for granted: the recipes, and two pictures.
    for name in ("one.jpg", "two.png"):
        Image.effect_noise((160, 140), 60).convert("RGB").save(tmp_path / name)
    names: dict[str, Any] = {}
    printed = []
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
        printed.append(capsys.readouterr().out)
    run, results = names["run"], names["results"]
    assert run.path == tmp_path / "runs" / "first" and run.scorer.is_file()
    assert repr(run.results) in printed[0]
    pair, forms = ([float(x) for x in re.findall(r"\d\.\d+", text)] for text in printed[1:3])
    assert len(pair) == 2 and all(1 <= value <= 5 for value in pair)
    assert len(forms) == 5 and forms == pytest.approx([forms[0]] * 5, abs=2e-4)
    assert printed[3].startswith("torch.Size([2, 3, 96, 128]) tensor(")
    (row,) = results.rows
    assert f"synthetic {row['n']} {row['srcc']} " in printed[4]
    assert row["srcc"] == run.results.rows[0]["srcc"]
    assert "koniq10k" in printed[5]
