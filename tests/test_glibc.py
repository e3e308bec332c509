"""Large blocks of freed memory are kept, which saves their page faults."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

LINUX = platform.libc_ver()[0] == "glibc"

_FAULTS = """
import resource, sys
from lit_biqa.compat.glibc import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
block = 1 << 26
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    bytearray(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
_ANSWER = "from lit_biqa.compat.glibc import keep_freed_memory; print(keep_freed_memory())"


def python(code: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.skipif(not LINUX, reason="the C library is not glibc")
def test_a_block_is_faulted_in_once() -> None:
    """Eight blocks of 64 MiB, one after another: eight times their pages, or about once."""
    given_back, kept = (int(python(_FAULTS, word)) for word in ("given back", "kept"))
    assert given_back > 4 * kept


@pytest.mark.skipif(not LINUX, reason="the C library is not glibc")
def test_settings_of_the_user_stay() -> None:
    assert python(_ANSWER) == "True"
    assert python(_ANSWER, MALLOC_ARENA_MAX="2") == "False"
    assert python(_ANSWER, LD_PRELOAD="") == "False"
