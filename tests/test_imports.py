"""Imports: the arrows among the rooms, light entry points, and the torchvision remedy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from lit_biqa.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parent.parent

# Each room imports only from lines above its own. Who adds a room gives it a line.
ROOMS = """
types
limits compat
io
distributed
progress text objectives
runs evaluation
data backbones rewards tasks
rollout scoring
paradigms served export
readouts
analysis
callbacks
methods
planning
app
html_report
cli
tools
"""
LEVEL = {room: level for level, line in enumerate(ROOMS.split("\n")) for room in line.split()}
FILES = sorted([*(ROOT / "lit_biqa").rglob("*.py"), *(ROOT / "tools").rglob("*.py")])
# The package's front doors may open any room, lazily.
DOORS = {ROOT / "lit_biqa" / "__init__.py", ROOT / "lit_biqa" / "__main__.py"}


def room_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return "tools" if parts[0] == "tools" else parts[1]


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Modules and names of the package that a module imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports within the package are written out"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names.append(str(node.module))
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.startswith("lit_biqa."))


def imported_rooms(tree: ast.AST) -> Iterator[str]:
    """Rooms of the package that a module imports."""
    yield from (name.split(".")[1] for name in imported_names(tree))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_arrows(file: Path) -> None:
    if file in DOORS:
        return
    room = room_of(file)
    assert room in LEVEL, f"give the room {room} its line in ROOMS"
    for other in imported_rooms(ast.parse(file.read_text())):
        assert other != "cli" or room in ("cli", "tools"), "only tools import cli"
        allowed = other == room or LEVEL[other] < LEVEL[room]
        assert allowed, f"{room} must not import {other}"


def test_no_circle_among_files() -> None:
    names = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in FILES}
    graph = {}
    for name, file in names.items():
        found = {other for other in imported_names(ast.parse(file.read_text())) if other in names}
        graph[name] = found - {name}
    TopologicalSorter(graph).prepare()  # raises a CycleError that names the files


def test_few_files_lie_at_the_root() -> None:
    loose = {file.stem for file in (ROOT / "lit_biqa").glob("*.py")}
    assert len(loose - {"__init__", "__main__", "types"}) <= 4


def test_arrows_see_every_form_of_import() -> None:
    code = "import lit_biqa.data.splits\ndef f():\n    from lit_biqa import cli\n    import os"
    assert set(imported_rooms(ast.parse(code))) == {"data", "cli"}


def python(code: str) -> str:
    """Run ``code`` in a fresh interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import lit_biqa, sys; print(sorted({'torch', 'numpy', 'lightning'} & set(sys.modules)))"
    assert python(code) == "[]"


def test_command_line_imports_nothing_heavy_beside_lightning() -> None:
    """And torchvision imports whatever torch it meets: where it fits, the remedy does nothing."""
    code = (
        "import lit_biqa, sys, lightning.pytorch.cli\n"
        "before = set(sys.modules)\n"
        "import lit_biqa.cli.main\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names - {'numpy', 'PIL'}))\n"
        "import torch, torchvision\n"
        "fits = torchvision.extension._has_ops()\n"
        "print(fits == (not lit_biqa.compat.torchvision._libraries))\n"
        "print(hasattr(torch.ops.torchvision, 'nms'))"
    )
    assert python(code).splitlines() == ["['lit_biqa']", "True", "True"]


def test_torchvision_remedy_leaves_existing_operators_alone() -> None:
    code = (
        "import torch, pathlib\n"
        "from lit_biqa.compat import torchvision as remedy\n"
        "signature = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'\n"
        "library = torch.library.Library('torchvision', 'DEF')\n"
        "library.define('nms' + signature)\n"
        "print(remedy.declare_missing_operators(pathlib.Path('nowhere')))\n"
        "print(remedy.declare_missing_operators(pathlib.Path('nowhere')))"
    )
    assert python(code).splitlines() == ["['qnms']", "[]"]


# Libraries that take a tenth of a second or more to import, and the commands that may import them
# before they know what they are asked for. Lightning brings the rest with it.
SLOW = {"torch", "lightning", "transformers", "torchvision", "open_clip", "peft", "bitsandbytes"}
SLOW |= {"scipy", "sklearn", "matplotlib", "tensorboard", "pandas", "openpyxl", "trl", "timm"}
LIGHTNING = {"torch", "lightning", "transformers", "torchvision", "scipy", "matplotlib"}
MAY_IMPORT: dict[str, set[str]] = {
    "list": set(),
    "baseline": set(),
    "compare": set(),
    "report": set(),
    "compare_rewards": set(),
    "weights": set(),
    "prepare": {"torch"},
    "score": {"torch"},
    "serve": set(),
    "describe": LIGHTNING,
    "import_rali": LIGHTNING,
    "export_clip": LIGHTNING,
    "export": LIGHTNING,
    "analyse": LIGHTNING,
    "case": LIGHTNING,
    "swap": LIGHTNING,
    "plan": LIGHTNING,
}


@pytest.mark.newest
@pytest.mark.parametrize("command", MAY_IMPORT)
def test_commands_import_what_they_need_alone(command: str) -> None:
    code = (
        f"import sys, lit_biqa.cli.{command}; print(*sorted({SLOW!r} & set(sys.modules)), sep=',')"
    )
    assert {*python(code).split(",")} - {""} <= MAY_IMPORT[command]


def test_every_command_has_its_imports_listed() -> None:
    modules = {module.rpartition(".")[2] for module, _ in COMMANDS.values()}
    assert modules == set(MAY_IMPORT)
