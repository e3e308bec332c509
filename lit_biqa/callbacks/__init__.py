"""Callbacks of every method: reports, predictions, costs, progress bar, rollout table, watchdog."""

from lit_biqa.callbacks.correlation import CorrelationReport
from lit_biqa.callbacks.overlap import OverlapReport
from lit_biqa.callbacks.predictions import PredictionWriter
from lit_biqa.callbacks.progress_bar import ProgressBar
from lit_biqa.callbacks.resources import ResourceMeter
from lit_biqa.callbacks.rollout_table import RolloutTable
from lit_biqa.callbacks.watchdog import Watchdog

__all__ = [
    "CorrelationReport",
    "OverlapReport",
    "PredictionWriter",
    "ProgressBar",
    "ResourceMeter",
    "RolloutTable",
    "Watchdog",
]
