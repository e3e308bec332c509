"""Rows of readouts, for every method whose scores come from what a model says."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from lit_biqa.methods.evaluation import identity
from lit_biqa.readouts.base import Readout, Verdict
from lit_biqa.rollout.engine import ChatModel
from lit_biqa.types import Batch, InputError, Prediction, TextPrediction


def refuse_repeated(readouts: Sequence[Readout]) -> None:
    """Refuse readouts of which two have a condition of the same name.

    Raises:
        InputError: names all conditions.
    """
    names = [name for readout in readouts for name in readout.conditions]
    if len(set(names)) < len(names):
        raise InputError(f"readouts need different conditions, but have {', '.join(names)}")


def refuse_empty(readouts: Sequence[Readout]) -> None:
    """Refuse a readout without conditions.

    Raises:
        InputError: names the readout and the settings that give it conditions.
    """
    for readout in readouts:
        if not readout.conditions:
            raise InputError(
                f"{type(readout).__name__} in model.readouts reads nothing: its answers hold "
                "no rating (rewards without an attribute `form`), and it reads no text "
                "(texts=[]); name texts, or set protocol=paper"
            )


def read_rows(model: ChatModel, readouts: Sequence[Readout], batch: Batch) -> list[Prediction]:
    """One row for each image and condition; an unreadable image has no score.

    A readout of one condition takes an equal share of its time for each row; `Rated` times each of
    its conditions itself.
    """
    return [
        TextPrediction(
            **identity(batch, row),
            score=verdict.score if batch["status"][row] == "ok" else math.nan,
            condition=condition,
            status=verdict.status if batch["status"][row] == "ok" else batch["status"][row],
            level=verdict.level,
            text=verdict.text,
            leak=verdict.leak,
            spread=verdict.spread,
            seconds=verdict.seconds,
        )
        for readout in readouts
        for condition, verdicts in _timed(readout, model, batch).items()
        for row, verdict in enumerate(verdicts)
    ]


def _timed(readout: Readout, model: ChatModel, batch: Batch) -> dict[str, list[Verdict]]:
    start = time.perf_counter()
    found = readout.read(model, batch)
    if len(found) > 1:
        return found
    share = (time.perf_counter() - start) / max(1, len(batch["index"]))
    return {
        condition: [replace(v, seconds=share) if math.isnan(v.seconds) else v for v in verdicts]
        for condition, verdicts in found.items()
    }
