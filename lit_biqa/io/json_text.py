"""JSON from outside: one clear error for broken, too deeply nested or ambiguous text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lit_biqa.limits import NESTING, NUMBER_DIGITS
from lit_biqa.types import InputError

# A string (to the end of the text if it is not closed) or a bracket. A match that has begun cannot
# fail, so that finding all of them takes linear time.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)


def complete_lines(path: Path) -> list[str]:
    """Lines of a file that a process appends to; one cut off by its end is left out.

    A file that does not exist has none.
    """
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []


def parse_json(text: str, place: str) -> Any:
    """Value of a JSON text.

    Args:
        text: one JSON value.
        place: file and line, for error messages.

    Raises:
        InputError: if the text is no JSON, nests deeper than `NESTING`, holds a number of more than
            `NUMBER_DIGITS` digits, or has a record with the same field twice.
    """
    _check_depth(text, place)
    try:
        return json.loads(text, object_pairs_hook=_record, parse_int=_whole, parse_float=_real)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{place}: broken JSON ({error}); repair or remove it, the file may be cut off"
        ) from error
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def _check_depth(text: str, place: str) -> None:
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > NESTING:
            raise InputError(
                f"{place}: JSON nested deeper than {NESTING} levels, the limit; take the file "
                "from its source again"
            )


def _record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f'a record has the field "{twice:.80}" twice; keep one of them')
    return record


def _whole(digits: str) -> int:
    return int(_checked(digits))


def _real(digits: str) -> float:
    return float(_checked(digits))


def _checked(digits: str) -> str:
    if len(digits) > NUMBER_DIGITS:
        raise InputError(f"a number has {len(digits)} digits; the limit is {NUMBER_DIGITS}")
    return digits
