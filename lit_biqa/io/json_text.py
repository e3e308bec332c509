"""JSON from outside: what is broken, too deep or named twice is one clear error."""

from __future__ import annotations

import json
import re
from typing import Any

from lit_biqa.limits import NESTING, NUMBER_DIGITS
from lit_biqa.types import InputError

# A string (to the end of the text where it is not closed), or a bracket. It never fails once it
# has begun, so that looking for all of them is linear.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)


def parse_json(text: str, place: str) -> Any:
    """What a JSON text says.

    Args:
        text: one JSON value.
        place: where it stands, for messages.

    Raises:
        InputError: if it is no JSON, nests deeper than `NESTING`, holds a number of more than
            `NUMBER_DIGITS` digits, or a record that has one field twice.
    """
    _check_depth(text, place)
    try:
        return json.loads(text, object_pairs_hook=_record, parse_int=_whole, parse_float=_real)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{place}: broken JSON ({error}); mend or remove it, the file may be cut off"
        ) from error
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def _check_depth(text: str, place: str) -> None:
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > NESTING:
            raise InputError(
                f"{place}: JSON nested deeper than {NESTING}, the limit; take the file from "
                "where it was made again"
            )


def _record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f'a record has "{twice:.80}" twice; keep one of them')
    return record


def _whole(digits: str) -> int:
    return int(_checked(digits))


def _real(digits: str) -> float:
    return float(_checked(digits))


def _checked(digits: str) -> str:
    if len(digits) > NUMBER_DIGITS:
        raise InputError(f"a number of {len(digits)} digits; at most {NUMBER_DIGITS} are read")
    return digits
