"""Blind image quality assessment with multimodal language models, on PyTorch Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lit_biqa.compat import torchvision

if TYPE_CHECKING:
    from lit_biqa.scoring.scorer import Scorer

__version__ = "0.1.0"

torchvision.install()


def load_scorer(path: str | Path) -> Scorer:
    """Load a shipped scorer: ``load_scorer(path)(images) -> scores [N]`` on [1, 5], 5 best.

    Args:
        path: the portable file that a fit wrote.

    Raises:
        InputError: if the file is absent or is no scorer.
    """
    from lit_biqa.scoring import scorer

    return scorer.load_scorer(path)
