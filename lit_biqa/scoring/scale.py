"""Scale of all scores, [1, 5], and a map that keeps predictions inside it."""

from __future__ import annotations

import torch
from torch import Tensor

LOW, HIGH = 1.0, 5.0
_MARGIN = 0.1  # width at each end in which scores are compressed


def within_scale(scores: Tensor) -> Tensor:
    """Map scores into [1, 5] without changing their order.

    Scores on [1.1, 4.9] stay unchanged. Above, ``5 - 0.1 exp(-(score - 4.9) / 0.1)`` continues with
    the same slope and never reaches 5; the lower end is symmetric. Clipping would make different
    scores equal and change rank correlations; this map keeps every rank, down to the resolution of
    the numbers.

    Args:
        scores: of any shape; ``nan`` stays ``nan``.
    """
    over = (scores - (HIGH - _MARGIN)).clamp(min=0)
    under = ((LOW + _MARGIN) - scores).clamp(min=0)
    pressed = scores - over + _press(over) + under - _press(under)
    return pressed.clamp(LOW, HIGH)  # against rounding


def _press(excess: Tensor) -> Tensor:
    """Map from 0, with slope 1, to the margin."""
    return -_MARGIN * torch.expm1(-excess / _MARGIN)
