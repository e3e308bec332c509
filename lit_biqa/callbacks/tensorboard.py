"""A test in TensorBoard: metrics beside the run's settings, and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.loggers import TensorBoardLogger

from lit_biqa.evaluation.hyperparameters import Setting
from lit_biqa.evaluation.report import Result
from lit_biqa.evaluation.store import identity
from lit_biqa.io.digests import digest_of_plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def name_of_test(results: Sequence[Result]) -> str:
    """A folder's name for tests of the same weights over the same sets and conditions.

    The first data sets for the reader, then a digest that tells such tests from all others.
    """
    sets = list(dict.fromkeys(r.dataset for r in results if not r.is_derived))
    shown = "+".join(sets[:3]) + f"+{len(sets) - 3}" * (len(sets) > 3)
    return f"{shown[:60]}-{digest_of_plain([list(identity(r)) for r in results])[:8]}"


def log_test(
    folder: Path,
    settings: Mapping[str, Setting],
    metrics: Mapping[str, float],
    figures: Mapping[str, Figure],
    step: int,
) -> None:
    """Write a test's events into a folder of their own, beside those that lie there.

    TensorBoard's table of hyperparameters takes for each folder the settings and the names of
    metrics that were written first. In the folder of the training, or of a test over other data
    sets, a test would not show; in one of its own it does. The same test once more adds its
    events there, and TensorBoard shows the latest.

    Args:
        folder: for the events, see `name_of_test`.
        settings: of the run, flat.
        metrics: values by tag; runs are compared by those that end in ``plcc`` and ``srcc``.
        figures: by tag.
        step: optimizer steps behind these weights.

    Raises:
        OSError: if the events cannot be written.
    """
    logger = TensorBoardLogger(folder.parent, name="", version=folder.name)
    # A table of every interval's ends would hide what runs are compared by.
    compared = {tag: v for tag, v in metrics.items() if tag.endswith(("/plcc", "/srcc"))}
    logger.log_hyperparams(dict(settings), compared, step)
    logger.log_metrics({tag: v for tag, v in metrics.items() if tag not in compared}, step)
    for tag, figure in figures.items():
        logger.experiment.add_figure(tag, figure, step)
    logger.experiment.close()
