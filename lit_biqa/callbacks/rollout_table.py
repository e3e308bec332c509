"""Table of sampled completions in TensorBoard during training."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_biqa.callbacks.tensorboard import RunLogger


@runtime_checkable
class Speaks(Protocol):
    """Method with a table of the completions of its last step.

    Attributes:
        table_every: optimizer steps between two tables.
    """

    table_every: int

    def rollout_rows(self) -> Iterable[Mapping[str, str]]:
        """One row for each completion, with columns by name."""


class RolloutTable(Callback):
    """Writes sampled completions as a table, every ``table_every`` steps of the method.

    Args:
        rows: number of completions shown.
    """

    def __init__(self, rows: int = 16) -> None:
        self.rows = rows

    def on_train_batch_end(  # noqa: D102
        self, trainer: Trainer, pl_module: LightningModule, *_: Any
    ) -> None:
        logger, step = trainer.logger, trainer.global_step
        if not isinstance(pl_module, Speaks) or not isinstance(logger, RunLogger):
            return
        if trainer.is_global_zero and (step - 1) % pl_module.table_every == 0:
            shown = markdown(islice(pl_module.rollout_rows(), self.rows))
            logger.experiment.add_text("rollouts", shown, step)


def markdown(rows: Iterable[Mapping[str, str]]) -> str:
    """Markdown table of rows with the same columns; text of a model is escaped."""
    lines: list[str] = []
    for row in rows:
        if not lines:
            lines += [" | ".join(row), " | ".join("---" for _ in row)]
        lines.append(" | ".join(map(_cell, row.values())))
    return "\n".join(lines)


def _cell(text: str) -> str:
    safe = html.escape(text).replace("|", "&#124;").replace("\n", "<br>")
    return safe.replace("`", "&#96;").replace("*", "&#42;").replace("_", "&#95;")
