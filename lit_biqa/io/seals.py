"""Seals: a digest inside each file that we write, by which a reader detects damage.

A file without a seal, from an older version or another program, is read unchecked. A seal detects
accidents, not intent: anyone who alters a file can seal it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lit_biqa.io.digests import digest_of, digest_of_plain
from lit_biqa.types import InputError

if TYPE_CHECKING:  # Label files are read without torch.
    from torch import Tensor

KEY = "digest"
_OURS = "lit_biqa-1:"  # other programs may use a field named digest
DAMAGED = "its content differs from the digest inside it: the file was damaged or altered"


def seal_notes(notes: Mapping[str, str], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Metadata of a safetensors file, with a digest of the metadata and the tensors added."""
    return {**notes, KEY: _of_file(notes, tensors)}


def check_notes(notes: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """Compare a safetensors file with its digest, if it has one.

    Raises:
        InputError: if they differ.
    """
    plain = {name: note for name, note in notes.items() if name != KEY}
    if notes.get(KEY, digest := _of_file(plain, tensors)) != digest:
        raise InputError(DAMAGED)


def _of_file(notes: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    return digest_of_plain([dict(notes), digest_of(tensors)])


def seal_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Record of a JSON Lines file, with a digest of the record added.

    Each record has its own digest: lines may be sorted, split among files and merged.
    """
    return {**record, KEY: _OURS + digest_of_plain(dict(record))}


def check_record(place: str, record: Any) -> None:
    """Compare a record with its digest, if it has one of ours.

    Raises:
        InputError: if they differ; names ``place``.
    """
    if not isinstance(record, dict) or not str(record.get(KEY, "")).startswith(_OURS):
        return
    plain = {name: value for name, value in record.items() if name != KEY}
    if record[KEY] != _OURS + digest_of_plain(plain):
        raise InputError(f"{place}: {DAMAGED}; copy the file again, or remove the record.")
