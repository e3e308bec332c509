"""Common parts of the benchmarks: a clock, and rows of figures with their limits."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table

COLUMNS = ("what", "figure", "unit", "limit", "verdict")


@dataclass(frozen=True)
class Row:
    """One measured figure.

    Attributes:
        what: was measured.
        figure: ``None`` where it could not be measured here.
        unit: of the figure and its limit; empty for ratios.
        limit: the figure may be this at most; ``None`` where it is reported only.
        least: the limit is the least that the figure may be.
        why: it could not be measured, where that is known.
    """

    what: str
    figure: float | None
    unit: str = ""
    limit: float | None = None
    least: bool = False
    why: str = ""

    @property
    def verdict(self) -> str:
        """``ok``, ``over`` or ``under`` the limit, ``not measured``, or nothing to judge by."""
        if self.figure is None:
            return f"not measured: {self.why}" if self.why else "not measured"
        if self.limit is None:
            return ""
        if self.least:
            return "ok" if self.figure >= self.limit else "under"
        return "ok" if self.figure <= self.limit else "over"

    def values(self) -> tuple[object, ...]:
        """As `COLUMNS` name them."""
        blank = [value if value is not None else "" for value in (self.figure, self.limit)]
        return self.what, blank[0], self.unit, blank[1], self.verdict

    def cells(self) -> tuple[str, ...]:
        """The same to be read."""
        digits = ".3g" if self.unit else ".4f"
        figure = "" if self.figure is None else f"{self.figure:{digits}}"
        sign = "≥" if self.least else "≤"
        limit = "" if self.limit is None else f"{sign} {self.limit:g}"
        return self.what, figure, self.unit, limit, self.verdict


def drawn(rows: Sequence[Row], title: str) -> Table:
    """All rows in one table."""
    table = Table(*COLUMNS, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row.cells())
    return table


def mark(device: torch.device) -> float:
    """Seconds, read once a device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def machine() -> str:
    """Environment of the figures: devices, torch and its threads."""
    devices = [_processor()]
    if torch.cuda.is_available():
        devices.append(torch.cuda.get_device_name())
    return f"{', '.join(devices)}; torch {torch.__version__}, {torch.get_num_threads()} threads"


def _processor() -> str:
    described = Path("/proc/cpuinfo")  # where Linux says more than platform does
    lines = described.read_text().splitlines() if described.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
