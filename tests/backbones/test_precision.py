"""The precision that `auto` stands for."""

from __future__ import annotations

import pytest
import torch

from lit_biqa.backbones.precision import chosen, dtype_of


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx2": True, "avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"neon": True, "bf16": True}, torch.bfloat16),
        ({}, torch.float32),
    ],
)
def test_auto_is_what_the_processor_has(
    instructions: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert dtype_of("auto") is expected
    assert chosen("float32") == "float32" and chosen("bfloat16") == "bfloat16"


@pytest.mark.parametrize("there", [True, False])
def test_auto_is_what_the_gpu_has(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: there)
    assert chosen("auto") == ("bfloat16" if there else "float32")
