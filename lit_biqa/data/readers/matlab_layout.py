"""Layout of a MATLAB file of version 5, checked before scipy reads the file.

scipy unpacks whatever size a file announces, and an unknown data type ends the process (a
segmentation fault in 1.17, after one changed byte). The layout is that of "MAT-File Format" by
MathWorks, chapter 1.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lit_biqa.limits import NESTING

HEADER, TAG = 128, 8  # bytes of the file's head and of an element's
INT8, INT32, UINT32, MATRIX, COMPRESSED = 1, 5, 6, 14, 15
NUMBERS = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13}
TEXTS = NUMBERS | {16, 17, 18}
CELL, CHARACTERS, NUMERIC = 1, 4, range(6, 16)  # classes of arrays
CHUNK = 2**20


class BrokenError(ValueError):
    """The file does not follow the layout."""


class TooLargeError(ValueError):
    """The file unpacks to more than the limit."""


@dataclass(frozen=True)
class Element:
    """A piece of a file: its data type and its data."""

    kind: int
    data: memoryview


def check_layout(content: bytes, variable: str, most: int) -> None:
    """Check the array of a variable.

    Files of versions other than 5 are left to scipy, which reads them in Python.

    Args:
        content: content of the file.
        variable: variable to be read; others are not checked.
        most: most bytes that its arrays may unpack to.

    Raises:
        BrokenError: if an element is cut off, of an unknown type, or not as its array announces.
        TooLargeError: if there are more than ``most`` bytes; no more than that is unpacked.
    """
    if content[126:128] not in (b"IM", b"MI"):
        return
    order: Literal["little", "big"] = "little" if content[126:128] == b"IM" else "big"
    for element in _elements(memoryview(content)[HEADER:], order):
        whole = [element]
        if element.kind == COMPRESSED:
            unpacked = _unpacked(element.data, most)
            most -= len(unpacked)
            whole = list(_elements(memoryview(unpacked), order))
        for array in whole:
            _, _, name, *_ = _elements(array.data, order)
            if bytes(name.data) == variable.encode():
                _check_array(array, order, 0)


def _elements(data: memoryview, order: Literal["little", "big"]) -> Iterator[Element]:
    place = 0
    while place < len(data):
        kind, size = _numbers(data[place : place + TAG], order, 2)
        begin, end = place + TAG, place + TAG + size
        place = end if kind == COMPRESSED else end + -size % 8
        if kind >> 16:  # up to four bytes are inside the tag
            size, kind = kind >> 16, kind & 0xFFFF
            begin, end, place = begin - 4, begin - 4 + size, begin
            if size > 4:
                raise BrokenError("a short element of more than four bytes")
        if end > len(data):
            raise BrokenError("an element continues beyond the end")
        yield Element(kind, data[begin:end])


def _check_array(array: Element, order: Literal["little", "big"], depth: int) -> None:
    if array.kind != MATRIX or depth > NESTING:
        raise BrokenError(f"data type {array.kind} instead of an array")
    flags, shape, name, *inside = _elements(array.data, order)
    if (flags.kind, shape.kind, name.kind) != (UINT32, INT32, INT8):
        raise BrokenError("an array without flags, shape and name")
    group = _numbers(flags.data, order, 2)[0] & 0xFF
    count = math.prod(_numbers(shape.data, order, len(shape.data) // 4))
    kinds = {element.kind for element in inside}
    if group == CELL and len(inside) == count:
        for element in inside:
            _check_array(element, order, depth + 1)
    elif not (group == CHARACTERS and len(inside) == 1 and kinds <= TEXTS) and not (
        group in NUMERIC and len(inside) in (1, 2) and kinds <= NUMBERS
    ):
        raise BrokenError(f"an array of class {group} that holds other data than announced")


def _numbers(data: memoryview, order: Literal["little", "big"], count: int) -> list[int]:
    if len(data) < 4 * count:
        raise BrokenError("the file is cut off")
    return [int.from_bytes(data[4 * i : 4 * i + 4], order) for i in range(count)]


def _unpacked(packed: memoryview, most: int) -> bytes:
    unpack, pieces, rest = zlib.decompressobj(), list[bytes](), bytes(packed)
    while rest and not unpack.eof:
        pieces.append(unpack.decompress(rest, CHUNK))
        rest = unpack.unconsumed_tail
        most -= len(pieces[-1])
        if most < 0:
            raise TooLargeError
    return b"".join(pieces)
