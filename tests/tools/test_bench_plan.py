"""The plan of a fit against live tensors of two processes that share its weights."""

from __future__ import annotations

import subprocess
import sys

from bench_path import TOOLS


def test_plan_is_within_its_limits_of_a_small_fit() -> None:
    """The exit status is 1 where a ratio is beyond 15%."""
    command = [sys.executable, str(TOOLS / "bench.py"), "plan", "--small"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "GRPO full: peak, measured" in done.stdout
