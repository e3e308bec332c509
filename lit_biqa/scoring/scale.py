"""The scale of all scores, [1, 5], and what keeps predictions within it."""

from __future__ import annotations

import torch
from torch import Tensor

LOW, HIGH = 1.0, 5.0
_MARGIN = 0.1  # of each end, within which scores are pressed together


def within_scale(scores: Tensor) -> Tensor:
    """Scores within [1, 5], in the order that they had.

    Those on [1.1, 4.9] stay as they are. Beyond, ``5 - 0.1 exp(-(score - 4.9) / 0.1)`` goes on
    with the same slope and never reaches 5, and likewise at 1. A hard cut would make equals of
    images that were told apart, and change rank correlations; this keeps every rank, down to the
    resolution of the numbers.

    Args:
        scores: of any shape; ``nan`` stays.
    """
    over = (scores - (HIGH - _MARGIN)).clamp(min=0)
    under = ((LOW + _MARGIN) - scores).clamp(min=0)
    pressed = scores - over + _press(over) + under - _press(under)
    return pressed.clamp(LOW, HIGH)  # of roundings


def _press(excess: Tensor) -> Tensor:
    """From 0 with slope 1 to the margin."""
    return -_MARGIN * torch.expm1(-excess / _MARGIN)
