"""Readouts: how a score is read out of a model that writes.

All are imported here, so that settings may name each by its bare name, as in
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
