"""What imports what: the arrows among the rooms, light entry points, and the torchvision remedy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Each room imports only from lines above its own. Who adds a room gives it a line.
ROOMS = """
_torchvision
types
limits compat scale
json_text
parallel files digests recipes
seals archives head_settings
progress bootstrap hyperparameters stops
text objectives metrics
conditions
report
store tables
data backbones prototypes rewards
rollout tasks
paradigms
readouts
analysis
scorer_header
callbacks scorer
methods
class_paths yaml_text
run_lock slurm config_files setting_values
run_folder
checkpoints run_checkpoint faults
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


def imported_rooms(tree: ast.AST) -> Iterator[str]:
    """Rooms of the package that a module imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports within the package are written out"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("lit_biqa."))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_arrows(file: Path) -> None:
    if file in DOORS:
        return
    room = room_of(file)
    assert room in LEVEL, f"give the room {room} its line in ROOMS"
    for other in imported_rooms(ast.parse(file.read_text())):
        assert other != "cli" or room == "cli", "nothing imports cli"
        allowed = other == room or LEVEL[other] < LEVEL[room]
        assert allowed, f"{room} must not import {other}"


def test_arrows_see_every_form_of_import() -> None:
    code = "import lit_biqa.data.splits\ndef f():\n    from lit_biqa import cli\n    import os"
    assert list(imported_rooms(ast.parse(code))) == ["data", "cli"]


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
        "import lit_biqa.cli\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names))\n"
        "import torch, torchvision\n"
        "fits = torchvision.extension._has_ops()\n"
        "print(fits == (not lit_biqa._torchvision._kept))\n"
        "print(hasattr(torch.ops.torchvision, 'nms'))"
    )
    assert python(code).splitlines() == ["['PIL', 'lit_biqa']", "True", "True"]


def test_torchvision_remedy_leaves_existing_operators_alone() -> None:
    code = (
        "import torch, pathlib\n"
        "from lit_biqa import _torchvision as remedy\n"
        "signature = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'\n"
        "library = torch.library.Library('torchvision', 'DEF')\n"
        "library.define('nms' + signature)\n"
        "print(remedy.declare_missing_operators(pathlib.Path('nowhere')))\n"
        "print(remedy.declare_missing_operators(pathlib.Path('nowhere')))"
    )
    assert python(code).splitlines() == ["['qnms']", "[]"]
