"""Docstrings as the site shows them: names become links, and an example is a section."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

_NAME = re.compile(r"(?<![`\[\w])`([A-Za-z_][\w.]*)`(?![`\]\w])")
# griffe knows the section by its plural alone
_EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)


class NamesToLinks(griffe.Extension):
    """Link names in single backticks that can be resolved where they stand, as Python would."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        """Change the docstrings of all that a package holds."""
        for thing in _things(pkg):
            if thing.docstring is not None:
                text = _EXAMPLE.sub(r"\1Examples:", thing.docstring.value)
                thing.docstring.value = _NAME.sub(_Linked(thing), text)


def _things(thing: griffe.Object) -> Iterator[griffe.Object]:
    """An object and all that it holds, but nothing that it imports."""
    yield thing
    for member in thing.members.values():
        if isinstance(member, griffe.Object):
            yield from _things(member)


class _Linked:
    """Turns a name into a link to the page that describes it; leaves others as they are.

    Args:
        thing: object whose docstring has the name.
    """

    def __init__(self, thing: griffe.Object) -> None:
        self.thing = thing

    def __call__(self, match: re.Match[str]) -> str:
        """The link."""
        target = self._target(match[1])
        shown = target is not None and target.has_docstring and "._" not in target.canonical_path
        return f"[{match[0]}][{target.canonical_path}]" if target and shown else match[0]

    def _target(self, name: str) -> griffe.Object | None:
        """What a name stands for: a member of the class around, or a name of the module."""
        first, *rest = name.split(".")
        thing = self.thing
        owner = thing if thing.is_class else thing.parent
        try:
            if owner is not None and owner.is_class and first in owner.all_members:
                found: Any = owner.all_members[first]
            else:
                found = thing.modules_collection[thing.resolve(first)]
            for part in rest:
                found = found.all_members[part]
            target = found.final_target if found.is_alias else found
        except (KeyError, griffe.GriffeError):
            return None
        return target if isinstance(target, griffe.Object) else None
