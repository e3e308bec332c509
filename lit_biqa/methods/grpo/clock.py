"""Seconds that the phases of a training step take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class PhaseClock:
    """Adds up the seconds of each phase since the last reset.

    Attributes:
        seconds: by phase, such as ``{"rollout": 2.5, "loss": 1.25}``.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def reset(self) -> None:
        """Begin a step."""
        self.seconds = {}

    @contextmanager
    def measure(self, phase: str, device: torch.device) -> Iterator[None]:
        """Add what is done within it to a phase, once the device has done it."""
        start = _now(device)
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + _now(device) - start


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
