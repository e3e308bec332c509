"""Lowest versions and the tests to run on them, read from setup.cfg and from imports.

``python .ci/lowest.py WHAT`` prints, a line each:

- ``constraints``: the lowest version of each dependency, as ``pip --constraint`` takes it;
- ``tests``: the test files that touch the libraries of `TOUCHY`;
- ``versions``: the version of each dependency that is installed.
"""

from __future__ import annotations

import ast
import configparser
import re
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Libraries of which the project uses more than plain functions, so that their age shows.
TOUCHY = {"transformers", "peft", "lightning", "jsonargparse", "torchmetrics"}

REQUIREMENT = re.compile(r"^([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+),<[\w.]+$")


def lowest(
    extras: tuple[str, ...] = ("test", "heic", "onnx", "served", "browser", "bench"),
) -> dict[str, str]:
    """The lowest version of each dependency.

    Raises:
        ValueError: for a dependency without a lower and an upper bound.
    """
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    listed = [settings["options"]["install_requires"]]
    listed += [settings.get("options.extras_require", extra, raw=True) for extra in extras]
    found: dict[str, str] = {}
    for line in "\n".join(listed).splitlines():
        if not line or line.startswith(("#", "%(")):
            continue
        match = REQUIREMENT.match(line)
        if match is None:
            raise ValueError(f"setup.cfg: {line} needs bounds: NAME>=LOWEST,<UNTESTED")
        found[match[1]] = match[2]
    return found


@cache
def imported(file: Path) -> tuple[str, ...]:
    """Names that a file imports, inside functions too: modules, and what is taken from them."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


@cache
def module_file(name: str, beside: Path) -> Path | None:
    """The file of one of our modules; ``None`` for a library's."""
    stem = name.replace(".", "/")
    for folder in (ROOT, beside, ROOT / "tests"):
        for path in (folder / f"{stem}.py", folder / stem / "__init__.py"):
            if path.is_file():
                return path
    return None


@cache
def touched(file: Path) -> frozenset[str]:
    """Libraries of `TOUCHY` that a file imports itself."""
    return frozenset(name.partition(".")[0] for name in imported(file)) & TOUCHY


def reach(file: Path) -> set[Path]:
    """A file, and all of ours that it imports at any remove."""
    seen, left = {file}, [file]
    while left:
        at = left.pop()
        found = (module_file(name, at.parent) for name in imported(at))
        new = {path for path in found if path is not None} - seen
        seen |= new
        left += new
    return seen


def tests() -> list[Path]:
    """Test files that come to one of the libraries."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [file for file in files if any(map(touched, reach(file)))]


def main(what: str) -> None:
    """Print constraints, tests or versions."""
    lines = {
        "constraints": lambda: [f"{name}=={least}" for name, least in lowest().items()],
        "tests": lambda: [str(file.relative_to(ROOT)) for file in tests()],
        "versions": lambda: [f"{name}=={version(name)}" for name in lowest()],
    }[what]()
    print("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1])
