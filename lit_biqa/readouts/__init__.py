"""Readouts: ways to read a score from a model that writes text.

All are imported here, so that settings can name each without its module, as in
``--model.readouts '[TwoPass]'``.
"""

from lit_biqa.readouts.base import Readout, Verdict
from lit_biqa.readouts.levels import (
    FromDescription,
    GeneratedWord,
    LevelLogits,
    OnePass,
    TwoPass,
)
from lit_biqa.readouts.ratings import Rated

__all__ = [
    "FromDescription",
    "GeneratedWord",
    "LevelLogits",
    "OnePass",
    "Rated",
    "Readout",
    "TwoPass",
    "Verdict",
]
