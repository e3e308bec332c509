"""TensorBoard's view of a run: one entry, with curves, tests, scatters and settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from lit_biqa.evaluation.hyperparameters import Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADLINES = ("val/plcc", "val/srcc", "test/plcc", "test/srcc")
"""Scalars in TensorBoard's table of hyperparameters, the latest value of each."""


class RunLogger(TensorBoardLogger):
    """Writes all events of a run into its folder, so that TensorBoard shows the run as one entry.

    A fit, its test and each later test add a file of events to the folder.

    Args:
        folder: run folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="")
        self._has_settings = False

    @rank_zero_only
    def save(self) -> None:
        """Flush the events; Lightning's hparams.yaml is not written, because config.yaml exists."""
        self.experiment.flush()

    @rank_zero_only
    def log_settings(self, settings: Mapping[str, Setting]) -> None:
        """Write the run's line of the table of hyperparameters, with `HEADLINES` as its scores.

        TensorBoard uses the first line written, so a logger writes it only once.

        Args:
            settings: flat settings of the run; see `lit_biqa.evaluation.hyperparameters`.
        """
        from torch.utils.tensorboard.summary import hparams

        if self._has_settings:
            return
        self._has_settings = True
        writer = self.experiment._get_file_writer()  # as Lightning does; opens it anew after a fit
        # The third summary, the session's end, would mark an interrupted run as a success.
        metrics = dict.fromkeys(HEADLINES, 0.0)  # only their names are written
        summaries = hparams(dict(settings), metrics)  # type: ignore[no-untyped-call]
        for summary in summaries[:2]:
            writer.add_summary(summary)
        self.experiment.flush()

    @rank_zero_only
    def log_figures(self, figures: Mapping[str, Figure], step: int) -> None:
        """Log figures by tag."""
        for tag, figure in figures.items():
            self.experiment.add_figure(tag, figure, step)
