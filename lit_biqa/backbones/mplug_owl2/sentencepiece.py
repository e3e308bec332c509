"""Reads what a LLaMA ``tokenizer.model`` holds: pieces, their scores, and how it was trained.

The file is one protocol-buffer message, of which a few fields matter here; reading those takes less
than the two packages that transformers needs for it.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from lit_biqa.types import InputError

# Field numbers of the sentencepiece format: of the model, of a piece, of its two specifications.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_TEXT, _SCORE, _TYPE = 1, 2, 3
_MODEL_TYPE = 3
_CHARACTER_MAP, _DUMMY_PREFIX, _REMOVE_SPACES = 2, 3, 4

_NORMAL, _USER_DEFINED, _UNUSED = 1, 4, 5
_BPE = 2


class Piece(NamedTuple):
    """One entry of the vocabulary; ``mergeable`` is false for bytes and control tokens."""

    text: str
    score: float
    mergeable: bool


def read_pieces(file: Path) -> list[Piece]:
    """Pieces in the order of their ids.

    Args:
        file: a ``tokenizer.model`` trained as LLaMA's: BPE, text taken as it is.

    Raises:
        InputError: if the file is no such model.
    """
    try:
        model = _Message(file.read_bytes())
        pieces = [_piece(_Message(data)) for data in model.data(_PIECES)]
        trainer = _Message(b"".join(model.data(_TRAINER)))
        normalizer = _Message(b"".join(model.data(_NORMALIZER)))
    except (ValueError, IndexError, struct.error) as error:
        raise InputError(f"{file}: not a sentencepiece model ({error}); fetch it anew") from error
    fits = (
        trainer.integer(_MODEL_TYPE, 1) == _BPE
        and not any(normalizer.data(_CHARACTER_MAP))
        and normalizer.integer(_DUMMY_PREFIX, 1) == 1
        and normalizer.integer(_REMOVE_SPACES, 1) == 0
    )
    if not pieces or not fits:
        raise InputError(
            f"{file}: not a LLaMA tokenizer, which is BPE over unchanged text with a space put in "
            "front; take the one of an mPLUG-Owl2 (LLaMA-2) checkpoint"
        )
    return pieces


def merges_of(pieces: list[Piece]) -> list[tuple[str, str]]:
    """The merges that sentencepiece would make, best first: any two pieces that join to a third."""
    known = {piece.text for piece in pieces if piece.mergeable}
    scored = [
        (piece.score, piece.text[:cut], piece.text[cut:])
        for piece in pieces
        if piece.mergeable
        for cut in range(1, len(piece.text))
        if piece.text[:cut] in known and piece.text[cut:] in known
    ]
    return [(left, right) for _, left, right in sorted(scored, key=lambda merge: -merge[0])]


def _piece(message: _Message) -> Piece:
    (score,) = struct.unpack("<f", b"".join(message.data(_SCORE)) or bytes(4))
    mergeable = message.integer(_TYPE, _NORMAL) in (_NORMAL, _USER_DEFINED, _UNUSED)
    return Piece(b"".join(message.data(_TEXT)).decode("utf-8"), score, mergeable)


class _Message:
    """The fields of one protocol-buffer message."""

    def __init__(self, encoded: bytes) -> None:
        self._integers: dict[int, int] = {}
        self._data: dict[int, list[bytes]] = {}
        at = 0
        while at < len(encoded):
            key, at = _varint(encoded, at)
            number, kind = key >> 3, key & 7
            if kind == 0:
                self._integers[number], at = _varint(encoded, at)
                continue
            size, at = _size(kind, encoded, at)
            if at + size > len(encoded):
                raise ValueError("it ends too early")
            self._data.setdefault(number, []).append(encoded[at : at + size])
            at += size

    def integer(self, number: int, default: int) -> int:
        """The integer or truth value in a field."""
        return self._integers.get(number, default)

    def data(self, number: int) -> list[bytes]:
        """Each occurrence of any other field, undecoded."""
        return self._data.get(number, [])


def _size(kind: int, encoded: bytes, at: int) -> tuple[int, int]:
    if kind == 2:
        return _varint(encoded, at)
    if kind not in (1, 5):
        raise ValueError(f"unknown field kind {kind}")
    return (8 if kind == 1 else 4), at


def _varint(encoded: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while encoded[at] & 0x80:
        value |= (encoded[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | encoded[at] << shift, at + 1
