"""Precision of weights and products."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def chosen(precision: Precision) -> Literal["float32", "bfloat16"]:
    """Precision that ``auto`` stands for: bfloat16 where the hardware has it, else float32.

    Processors without such instructions emulate bfloat16, and take some ten times as long as in
    float32.
    """
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = cpu_has_bfloat16()
    return "bfloat16" if fast else "float32"


def cpu_has_bfloat16() -> bool:
    """True if the processor has instructions for bfloat16."""
    instructions = torch.cpu.get_capabilities()
    return any(there for name, there in instructions.items() if "bf16" in name)


def dtype_of(precision: Precision) -> torch.dtype:
    """Data type of a precision; see `chosen` for ``auto``."""
    return torch.bfloat16 if chosen(precision) == "bfloat16" else torch.float32
