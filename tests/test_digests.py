"""Digests tell values apart, and nothing else."""

from __future__ import annotations

import hashlib
import struct

import pytest
import torch

from lit_biqa.io.digests import digest_of, digest_of_plain

VALUES = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(True), "e": torch.zeros(0, 2)}


def test_digest_is_that_of_the_bytes_written_out_by_hand() -> None:
    content = b'["x", "torch.float32", [2]]' + struct.pack("<2f", 1.0, -2.5)
    found = digest_of({"x": torch.tensor([1.0, -2.5])})
    assert found == hashlib.sha256(content).hexdigest()
    assert digest_of_plain({"b": "ü", "a": 1}) == digest_of_plain({"a": 1, "b": "ü"})


def test_order_and_layout_do_not_matter() -> None:
    whole = digest_of(VALUES)
    turned = {name: VALUES[name] for name in reversed(VALUES)}
    turned["b"] = VALUES["b"].T.contiguous().T
    part = torch.arange(12.0).reshape(4, 3)[:2]
    assert digest_of(turned) == digest_of({**VALUES, "b": part}) == whole


@pytest.mark.parametrize(
    "change",
    [
        {"b": torch.arange(6.0).reshape(3, 2)},
        {"b": torch.arange(6.0).reshape(2, 3).double()},
        {"b": torch.arange(6).reshape(2, 3).float().neg()},
        {"a": torch.tensor(False)},
        {"c": torch.zeros(1)},
        {"e": torch.zeros(2, 0)},
    ],
)
def test_any_change_shows(change: dict[str, torch.Tensor]) -> None:
    assert digest_of({**VALUES, **change}) != digest_of(VALUES)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64, torch.uint8])
def test_every_type_has_one(dtype: torch.dtype) -> None:
    first, second = torch.tensor([1, 2]).to(dtype), torch.tensor([1, 3]).to(dtype)
    assert digest_of({"x": first}) != digest_of({"x": second})
