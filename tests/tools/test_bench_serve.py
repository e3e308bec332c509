"""The load of a server, with few clients for a second."""

from __future__ import annotations

import subprocess
import sys

import pytest
from bench_path import TOOLS

pytest.importorskip("gradio", reason="the page needs the extra serve")


def test_every_request_of_a_small_load_is_answered() -> None:
    """The exit status is 1 where a request has no score, or memory grows."""
    command = [sys.executable, str(TOOLS / "bench.py"), "serve", "--small"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "images/s" in done.stdout
