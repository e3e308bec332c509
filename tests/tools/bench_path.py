"""The benchmark's modules, importable for the length of a test."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "bench"


def imported(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Module of ``tools/bench``; all of its modules are forgotten at the end."""
    monkeypatch.syspath_prepend(str(TOOLS))
    yield importlib.import_module(name)
    ours = {file.stem for file in TOOLS.glob("*.py")}
    for each in ours & sys.modules.keys():
        del sys.modules[each]
