"""Memory allocator of Linux' C library: large blocks that are freed are kept for the next ones."""

from __future__ import annotations

import ctypes
import os

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = -1


def keep_freed_memory() -> bool:
    """Have the allocator reuse large blocks instead of giving them back to the system.

    By default a block above a threshold (128 KiB at first, 32 MiB at most) is mapped when it is
    made and unmapped when it is freed, and the system zeroes its pages anew each time. Image
    features on a CPU, whose layers make and free such blocks, spend much of their time there. With
    memory kept, resident memory stays at its peak until the process ends.

    Settings of the user's (``MALLOC_…`` in the environment, another allocator by ``LD_PRELOAD``)
    stay as they are.

    Returns:
        True if the allocator is glibc's and has taken the settings.
    """
    if "LD_PRELOAD" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, Windows, other C libraries
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, _NEVER))
