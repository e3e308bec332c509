"""Slurm jobs that go back into the queue before their time is up."""

from __future__ import annotations

import logging
import os
import signal
import subprocess

log = logging.getLogger(__name__)


def began_again() -> bool:
    """True if this job ran before and was requeued."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")


def requeue(number: int) -> None:
    """Requeue a batch job that received SIGUSR1, as Lightning does.

    Lightning's own handler saves wherever the signal arrives, even within a step. Here the state
    that the next start needs has been written before.

    Args:
        number: of the signal.
    """
    job = os.environ.get("SLURM_JOB_ID")
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if job is None or interactive or number != getattr(signal, "SIGUSR1", None):
        return
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("job %s was not put back into the queue: %s", job, error)
    else:
        log.info("job %s is back in the queue", job)
