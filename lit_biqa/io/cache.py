"""Folder for what is computed once and kept: converted weights, features of frozen networks."""

from __future__ import annotations

import os
from pathlib import Path

CACHE = "LIT_BIQA_CACHE"


def cache_root() -> Path:
    """``LIT_BIQA_CACHE``, or ``~/.cache/lit_biqa``."""
    return Path(os.environ.get(CACHE) or "~/.cache/lit_biqa").expanduser()
