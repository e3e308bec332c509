"""Versions of libraries: which are known, that no other one is let in, and what setup.cfg says."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lit_biqa import __main__
from lit_biqa.compat import versions
from lit_biqa.types import InputError

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = sorted(versions.CHECKED)


@pytest.fixture(scope="module")
def lowest() -> ModuleType:
    """The script that reads lower bounds and picks tests."""
    spec = importlib.util.spec_from_file_location("lowest", ROOT / ".ci" / "lowest.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_installed_release_is_known(library: str) -> None:
    first, last = versions.CHECKED[library]
    assert first <= versions.check(library) <= last


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("found", ["99.1.0rc1", "0.1", "5.25.0.dev0"])
def test_an_unknown_release_is_refused(
    library: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "version", lambda _: found)
    with pytest.raises(InputError) as caught:
        versions.check(library)
    newest = ".".join(map(str, versions.CHECKED[library][1]))
    assert f"{library} {found} is installed" in str(caught.value)
    assert f"pip install '{library}=={newest}.*'" in str(caught.value)


def test_the_command_line_refuses_it_before_anything_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(versions, "version", lambda _: "99.1")
    monkeypatch.setitem(sys.modules, "lit_biqa.cli.main", None)
    assert __main__.main(["fit"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: lightning 99.1 is installed") and said.count("\n") == 1


def test_setup_allows_what_is_checked_and_no_more(lowest: ModuleType) -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = settings["options"]["install_requires"].replace("[signatures]", "").split()
    for library, (first, last) in versions.CHECKED.items():
        assert lowest.lowest()[library].split(".")[:2] == [str(number) for number in first]
        below = f",<{last[0]}.{last[1] + 1}"
        assert [line for line in lines if line.startswith(library) and line.endswith(below)]


def test_a_dependency_without_an_upper_bound_is_found(
    lowest: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "setup.cfg").read_text()
    assert "numpy>=1.26.0,<3" in text
    (tmp_path / "setup.cfg").write_text(text.replace("numpy>=1.26.0,<3", "numpy>=1.26.0"))
    monkeypatch.setattr(lowest, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=r"numpy>=1\.26\.0 needs bounds"):
        lowest.lowest()


def test_tests_are_chosen_by_what_they_come_to(lowest: ModuleType) -> None:
    chosen = {file.name for file in lowest.tests()}
    # By an import of its own, of a helper beside it, of our modules, within a function; by none.
    assert {"test_engine.py", "test_mplug_goldens.py", "test_cli.py", "test_fused.py"} <= chosen
    assert "test_compat.py" in chosen
    assert not {"test_parsing.py", "test_splits.py"} & chosen


def test_the_inside_of_libraries_is_taken_from_one_module_each() -> None:
    """Elsewhere only what transformers and peft offer at their front door is imported."""
    strays = [
        f"{file.relative_to(ROOT)}: {node.module}"
        for file in (ROOT / "lit_biqa").rglob("*.py")
        if file.parent.name != "compat"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
        if node.module.startswith(("transformers.", "peft", "jsonargparse"))
        or node.module.startswith(("lightning.pytorch.loops", "lightning.pytorch.trainer.conn"))
    ]
    assert not strays
