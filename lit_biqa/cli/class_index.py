"""Index of the classes of a room by base class, read from source without importing it.

Importing every method and backbone takes seconds; reading their source does not.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class ClassLine:
    """A class and the first line of its docstring.

    Attributes:
        module: dotted module name, such as ``lit_biqa.readouts.ratings``.
        name: name of the class.
        bases: names of its base classes.
        summary: first line of its docstring.
        methods: names of the methods that it defines.
        abstract: names of those that are abstract.
    """

    module: str
    name: str
    bases: tuple[str, ...]
    summary: str
    methods: frozenset[str]
    abstract: frozenset[str]


def classes_of(room: str, root: str) -> list[ClassLine]:
    """Public classes of a room that derive from ``root`` and have no abstract method left.

    Args:
        room: folder of the package.
        root: name of a class anywhere in the package.

    Returns:
        The classes, sorted by module and name.
    """
    everything = {
        line.name: line for path in sorted(PACKAGE.rglob("*.py")) for line in _classes(path)
    }
    return [
        line
        for name, line in everything.items()
        if f"{line.module}.".startswith(f"lit_biqa.{room}.")
        and root in _ancestors(name, everything)
        and not (name.startswith("_") or _left_abstract(name, everything))
    ]


def _ancestors(name: str, everything: dict[str, ClassLine]) -> set[str]:
    bases = everything[name].bases if name in everything else ()
    return {*bases, *(above for base in bases for above in _ancestors(base, everything))}


def _left_abstract(name: str, everything: dict[str, ClassLine]) -> set[str]:
    """Abstract methods that neither a class nor its bases implement."""
    if name not in everything:
        return set()
    line = everything[name]
    above = {method for base in line.bases for method in _left_abstract(base, everything)}
    return (above - line.methods) | line.abstract


def _classes(path: Path) -> list[ClassLine]:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    module = ".".join(parts).removesuffix(".__init__")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [_line(module, node) for node in tree.body if isinstance(node, ast.ClassDef)]


def _line(module: str, node: ast.ClassDef) -> ClassLine:
    bases = tuple(ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases)
    methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
    marked = [item for item in methods if "abstractmethod" in map(ast.unparse, item.decorator_list)]
    return ClassLine(
        module,
        node.name,
        bases,
        (ast.get_docstring(node) or "").partition("\n")[0],
        frozenset(item.name for item in methods),
        frozenset(item.name for item in marked),
    )
