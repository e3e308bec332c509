"""TensorBoard events of a run, with all parts of a resumed one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def event_logs(run: Path) -> Iterator[Any]:
    """Events of each file of a run folder, in the order in which the files were begun.

    Each is an ``EventAccumulator`` that holds all scalars and texts, and no more than one image.
    """
    files = sorted(run.glob("events.out.tfevents.*"))
    if not files:
        return
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for file in files:
        log = EventAccumulator(str(file), {"scalars": 0, "tensors": 0, "images": 1})
        log.Reload()
        yield log


def scalars(logs: Sequence[Any], tag: str) -> dict[int, float]:
    """Values of a tag by step; a later file replaces an earlier one.

    Args:
        logs: of `event_logs`.
        tag: such as ``train/reward``.
    """
    values: dict[int, float] = {}
    for log in logs:
        if tag in log.Tags()["scalars"]:
            values |= {event.step: event.value for event in log.Scalars(tag)}
    return values
