"""docs/tour.ipynb runs from top to bottom, and shows what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

TOUR = Path(__file__).resolve().parent.parent / "docs" / "tour.ipynb"


def test_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    book = nbformat.read(TOUR, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(book, timeout=900, kernel_name="python3").execute(cwd=str(tmp_path))
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(figures) == 4
    printed = "".join(output.get("text", "") for output in outputs)
    (explained,) = [line for line in printed.splitlines() if line.startswith("mean of the proto")]
    mean, score = (float(part.split()[-1]) for part in explained.split(","))
    assert mean == pytest.approx(score, abs=2e-3)
    (line,) = [line for line in printed.splitlines() if line.startswith("synthetic: ")]
    assert float(line.split("SRCC ")[1].split()[0]) > 0.1


def test_the_notebook_is_small_and_names_no_folder_of_its_author() -> None:
    assert TOUR.stat().st_size < 300_000
    book: dict[str, Any] = json.loads(TOUR.read_text(encoding="utf-8"))
    assert all("\\" not in line and "/work" not in line for line in printed_lines(book))


def printed_lines(book: dict[str, Any]) -> list[str]:
    """Lines of text that the cells have printed."""
    outputs = [output for cell in book["cells"] for output in cell.get("outputs", [])]
    return [line for output in outputs for line in output.get("text", [])]
