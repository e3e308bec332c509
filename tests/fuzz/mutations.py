"""Damaged input: a strategy that mutates valid files, and what readers may make of it.

``pytest tests/fuzz -n 0 --hypothesis-profile long --hypothesis-show-statistics`` tries more inputs
and prints the share of each outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from hypothesis import event
from hypothesis import strategies as st

from lit_biqa.types import InputError

T = TypeVar("T")

# Pieces that parsers of numbers, tables, JSON, YAML and tags are known to stumble over.
HOSTILE = (
    *(b"\0", b"\xff\xfe", b'"', b"'", b"\n", b"\r\n", b",", b"\t", b"nan", b"inf", b"1e999"),
    *(b"-1", b"9" * 5000, b"[" * 5000, b"{", b"}", b"null", b"true", b"../", b"\xe2\x80\xa8"),
    *(b"<answer>", b"</answer>", b"<think>", b"&a [*a, *a]", b"!!python/name:os.system", b"=1+1"),
)


@st.composite
def mutated(draw: st.DrawFn, valid: Sequence[bytes]) -> bytes:
    """One of some valid files after one to four edits, anywhere in it.

    An edit changes a byte, drops a stretch, repeats a stretch, puts a hostile piece in, or cuts the
    rest off.
    """
    content = draw(st.sampled_from(list(valid)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(1, 64)))
        before, stretch, rest = content[:start], content[start:end], content[end:]
        edit = draw(st.sampled_from(("change", "drop", "repeat", "insert", "cut")))
        if edit == "change":
            stretch = draw(st.binary(min_size=1, max_size=1)) + stretch[1:]
        elif edit == "insert":
            stretch = draw(st.sampled_from(HOSTILE)) + stretch
        else:
            stretch = 2 * stretch if edit == "repeat" else b""
        content = before + stretch + (b"" if edit == "cut" else rest)
    return content


def read_or_refused(read: Callable[[], T]) -> T | None:
    """Result of ``read``, or ``None`` if it refuses its input with a clear line.

    Any other error fails the test, and so does a message that is long or of several lines.
    """
    try:
        value = read()
    except InputError as error:
        message = str(error)
        assert message.strip() and "\n" not in message and len(message) < 2000, message
        event("a clear error")
        return None
    return value


def unchanged(read: Callable[[], T], valid: T) -> None:
    """The input is refused, or read as the valid file: never as another."""
    value = read_or_refused(read)
    if value is not None:
        assert value == valid, f"read without a word as {value!s:.500}"
        event("a correct reading")


def plausible(read: Callable[[], T], holds: Callable[[T], bool]) -> None:
    """The input is refused, or read as something that a valid file could hold."""
    value = read_or_refused(read)
    if value is not None:
        assert holds(value), f"{value!s:.500}"
        event("a reading that is valid too")
