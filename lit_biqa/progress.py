"""Progress on rank zero: a live bar on a terminal, occasional lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, TypeVar

from lit_biqa.distributed import world

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Item = TypeVar("Item")


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Bar:
    """Progress bar with steps, rate and time left; live on a terminal, else printed as lines.

    Args:
        description: name of the work.
        total: number of steps; ``None`` if it is not known.
        unit: name of the units of the rate; a step may hold several units.
        steps: name of the steps, such as ``batches``, if they differ from the units.
        done: number of steps done before, as in a resumed run.
        interval: seconds between lines if stdout is no terminal.
        keep: leave the bar on the terminal, or a last line in the log, once closed.
    """

    def __init__(
        self,
        description: str,
        total: int | None,
        unit: str = "items",
        steps: str = "",
        done: int = 0,
        interval: float = 10.0,
        keep: bool = True,
    ) -> None:
        self.description, self.total, self.unit, self.steps = description, total, unit, steps
        self.keep, self.done, self.before, self.units = keep, done, done, 0
        self._shown = self._started = time.monotonic()
        self._live: Progress | None = None
        self._interval = interval
        self._visible = world()[0] == 0
        if self._visible and sys.stdout.isatty():
            self._interval = 0.1
            self._task = self._open()

    def _open(self) -> TaskID:
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[text]}", table_column=Column(overflow="fold")),
            transient=not self.keep,
        )
        self._live.start()
        return self._live.add_task(self.description, total=self.total, text=self.text())

    def advance(self, units: int = 1, note: Callable[[], str] = str) -> None:
        """Count one step of so many units; ``note`` gives more text whenever the bar is shown."""
        self.done, self.units = self.done + 1, self.units + units
        if self._visible and time.monotonic() - self._shown >= self._interval:
            self._show(note())

    def pause(self, seconds: float) -> None:
        """Exclude seconds spent on other work from the rate."""
        self._started += seconds

    def elapsed(self) -> float:
        """Seconds since the start, without pauses."""
        return time.monotonic() - self._started

    def text(self, note: str = "") -> str:
        """Text of the bar: steps, rate, time left and note."""
        count = f"{self.done}/{self.total}" if self.total is not None else str(self.done)
        parts = [f"{count} {self.steps}".rstrip()]
        if self.units:
            parts.append(f"{self.units / max(self.elapsed(), 1e-9):.1f} {self.unit}/s")
        if self.total is not None and self.before < self.done < self.total:
            per_step = self.elapsed() / (self.done - self.before)
            parts.append(f"{clock(per_step * (self.total - self.done))} left")
        return ", ".join([*parts, note] if note else parts)

    def _show(self, note: str) -> None:
        self._shown = time.monotonic()
        if self._live is None:
            print(f"{self.description}: {self.text(note)}", flush=True)
        else:
            self._live.update(self._task, completed=self.done, text=self.text(note))

    def close(self, note: str = "") -> None:
        """Show the final state with the time taken, and close the bar."""
        took = f"took {clock(self.elapsed())}"
        if self._visible and self.keep:
            self._show(f"{took}, {note}" if note else took)
        if self._live is not None:
            self._live.stop()


def track(
    iterable: Iterable[Item],
    description: str,
    total: int | None = None,
    unit: str = "items",
    units: Callable[[Item], int] | None = None,
    steps: str = "",
) -> Iterator[Item]:
    """Iterate over items and show progress, rate and time left on rank zero.

    Example:
        >>> for batch in track(loader, "Embedding", unit="images", units=lambda b: len(b["index"])):
        ...     ...

    Args:
        iterable: the items.
        description: name of the work.
        total: number of items; ``None`` takes the length of ``iterable`` if it has one.
        unit: name of the units of the rate.
        units: number of units of an item; one if ``None``.
        steps: name of the items, if they differ from the units.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    bar = Bar(description, total, unit, steps)
    try:
        for item in iterable:
            yield item
            bar.advance(1 if units is None else units(item))
    finally:
        bar.close()
