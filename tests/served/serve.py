"""``transformers serve`` that ends with whoever started it, and reads pictures with Pillow.

Its own reader of pictures is torchvision's, which some builds lack.
"""

from __future__ import annotations

import functools
import os
import sys
import threading

import lit_biqa  # noqa: F401  before transformers, as it mends torchvision

# isort: split

from transformers import AutoImageProcessor
from transformers.cli.transformers import main


def end_with_parent() -> None:
    """End when the other end of the standard input is closed, for instance by a kill."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    reader = functools.partial(AutoImageProcessor.from_pretrained, backend="pil")
    AutoImageProcessor.from_pretrained = reader
    sys.exit(main())
