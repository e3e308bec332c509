"""Seconds spent in the phases of a training step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class PhaseClock:
    """Sums the seconds of each phase since the last reset.

    Attributes:
        seconds: seconds by phase, such as ``{"rollout": 2.5, "loss": 1.25}``.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def reset(self) -> None:
        """Start a new step."""
        self.seconds = {}

    @contextmanager
    def measure(self, phase: str, device: torch.device) -> Iterator[None]:
        """Add the time of the enclosed work to a phase, after the device has finished it."""
        start = _now(device)
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + _now(device) - start


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
