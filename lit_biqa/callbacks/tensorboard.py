"""A test in TensorBoard: metrics beside the run's settings, and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.loggers import TensorBoardLogger

from lit_biqa.hyperparameters import Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def log_test(
    folder: Path,
    settings: Mapping[str, Setting],
    metrics: Mapping[str, float],
    figures: Mapping[str, Figure],
    step: int,
) -> None:
    """Write a test's events into a folder of their own, in place of those of the test before.

    TensorBoard's table of hyperparameters takes for each folder the settings and the names of
    metrics that were written first. In the folder of the training a second test, or one over
    other data sets, would not show; in one of its own it always does.

    Args:
        folder: that of the test, within the run's.
        settings: of the run, flat.
        metrics: values by tag; runs are compared by those that end in ``plcc`` and ``srcc``.
        figures: by tag.
        step: optimizer steps behind these weights.

    Raises:
        OSError: if the events cannot be written.
    """
    for events in folder.glob("events.out.tfevents.*"):
        events.unlink()
    logger = TensorBoardLogger(folder.parent, name="", version=folder.name)
    # A table of every interval's ends would hide what runs are compared by.
    compared = {tag: v for tag, v in metrics.items() if tag.endswith(("/plcc", "/srcc"))}
    logger.log_hyperparams(dict(settings), compared, step)
    logger.log_metrics({tag: v for tag, v in metrics.items() if tag not in compared}, step)
    for tag, figure in figures.items():
        logger.experiment.add_figure(tag, figure, step)
    logger.experiment.close()
