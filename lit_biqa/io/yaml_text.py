"""YAML from outside: measured before it is built, so that a small file cannot fill the memory.

A few hundred bytes of aliases to aliases can expand to billions of nodes, and a line of brackets
can nest deeper than Python's recursion limit. Both show in the stream of events, which is read once
with two numbers held for each anchor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from lit_biqa import limits
from lit_biqa.types import InputError

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Errors of int(), date(), a missing tag's value and the like, which PyYAML lets through.
_FAULTS = (ValueError, LookupError, AttributeError, TypeError, RecursionError)
_NUMBER = re.compile(r"[-+0-9a-fA-Fxo_:.]+")


@dataclass
class _Open:
    """Mapping or sequence whose end has not been read.

    Attributes:
        anchor: its name for aliases; ``None`` without one.
        nodes: number of nodes so far, itself included, with aliases expanded.
        height: levels of nesting below it so far.
    """

    anchor: str | None
    nodes: int = 1
    height: int = 0


def parse(text: str, where: str) -> Any:
    """Parse a YAML document into mappings, lists and plain values.

    Args:
        text: the document.
        where: name of the document in errors.

    Raises:
        InputError: if the text is no YAML, or exceeds a limit of `lit_biqa.limits`.
    """
    try:
        measure(text, where)
        return yaml.load(text, Loader=_Loader)
    except InputError:
        raise
    except yaml.YAMLError as error:
        raise InputError(f"{where} is not YAML: {' '.join(str(error).split())}") from error
    except _FAULTS as error:
        raise InputError(f"{where} holds a value that YAML cannot read: {error}") from error


def measure(text: str, where: str) -> None:
    """Check a YAML document against the limits, without building it.

    Args:
        text: the document.
        where: name of the document in errors.

    Raises:
        InputError: if the document exceeds a limit of `lit_biqa.limits`.
            yaml.YAMLError: if the text is no YAML.
    """
    # A character takes at least one byte.
    if len(text) > limits.YAML_BYTES:
        raise InputError(f"{where} has {len(text):,} bytes; the limit is {limits.YAML_BYTES:,}")
    sizes: dict[str, tuple[int, int]] = {}  # of each anchor: nodes, and levels of nesting
    path = [_Open(None)]
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            path.append(_Open(event.anchor))
            added = (0, 0)
        elif isinstance(event, yaml.CollectionEndEvent):
            done = path.pop()
            added = (done.nodes, done.height + 1)
            sizes |= {done.anchor: added} if done.anchor else {}
        elif isinstance(event, yaml.ScalarEvent):
            _refuse_long_number(event.value, where)
            added = (1, 0)
            sizes |= {event.anchor: added} if event.anchor else {}
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise InputError(f"{where}: *{event.anchor} stands inside or before its own anchor")
            added = sizes[event.anchor]
        else:
            continue
        path[-1].nodes += added[0]
        path[-1].height = max(path[-1].height, added[1])
        _refuse_excess(path, where)


def _refuse_excess(path: list[_Open], where: str) -> None:
    if path[-1].nodes > limits.YAML_NODES:
        raise InputError(
            f"{where} has more than {limits.YAML_NODES:,} nodes with its aliases expanded"
        )
    if len(path) - 1 + path[-1].height > limits.NESTING:
        raise InputError(f"{where} nests deeper than {limits.NESTING} levels")


def _refuse_long_number(value: str, where: str) -> None:
    if len(value) > limits.NUMBER_DIGITS and _NUMBER.fullmatch(value):
        raise InputError(f"{where} holds a number of more than {limits.NUMBER_DIGITS:,} digits")
