"""Signals that end a run: one process receives them, all processes act on them together.

While a command is set up, a signal ends it at once. Once its loops run, a signal waits for the next
point at which the state can be saved and all ranks agree. A second signal never waits.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch

from lit_biqa.distributed import highest
from lit_biqa.runs.folder import is_first_process

#: SIGTERM, SIGINT, and SIGUSR1, which clusters send before a job's time is up.
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)

# Launchers forward a signal that their whole group has received; that is no second signal.
ECHO = 1.0  # seconds


class Stopped(BaseException):
    """A signal ended the command; no `Exception`, so that no library catches it.

    Args:
        number: of the signal.
        together: true if all ranks raise it at the same point, so that they can still save.
    """

    def __init__(self, number: int, together: bool = False) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number, self.together = number, together
        self.advice = ""

    @property
    def status(self) -> int:
        """Exit status by which shells identify the signal: 143, 130 or 138."""
        return 128 + self.number


@dataclass
class _Ear:
    """Signals that this process has received.

    Attributes:
        owner: the process that listens; its forks act as if nobody did.
        ignored: signals that the caller of the command wants ignored.
        heard: the first signal; 0 before one arrives.
        since: when it arrived, on the monotonic clock.
        waiting: true if a signal waits for `asked`.
    """

    owner: int = 0
    ignored: tuple[int, ...] = ()
    heard: int = 0
    since: float = 0.0
    waiting: bool = False


_ear = _Ear()


@contextmanager
def heard() -> Iterator[None]:
    """Handle signals during a command; afterwards the previous handlers are restored."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ignored = tuple(number for number in SIGNALS if before[number] is signal.SIG_IGN)
    vars(_ear).update(vars(_Ear(os.getpid(), ignored)))
    _listen()
    try:
        yield
    finally:
        _ear.waiting = False
        if _may_listen():
            for number, action in before.items():
                signal.signal(number, action)


def wait() -> None:
    """From here on signals wait for `asked`; replaces the handlers that Lightning installs."""
    if _ear.owner == os.getpid():
        _ear.waiting = True
        _listen()


def at_once() -> None:
    """From here on a signal ends the command at once."""
    _ear.waiting = False


def asked(device: torch.device) -> int:
    """Number of the signal that any rank has received, or 0; all ranks call it at the same point.

    Args:
        device: for the communication between ranks.
    """
    return highest(_ear.heard if _ear.waiting else 0, device)


def check(device: torch.device) -> None:
    """Raise `Stopped` if any rank received a signal; all ranks call it at the same point.

    Raises:
        Stopped: on every rank.
    """
    if number := asked(device):
        raise Stopped(number, together=True)


@contextmanager
def held_back() -> Iterator[None]:
    """Block signals in processes started within: signals often go to a whole process group.

    Otherwise the workers of a loader would end, and the current step would lack its images. Such
    processes must call `outlive_signals`.
    """
    if not hasattr(signal, "sigwaitinfo"):  # as on macOS
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def outlive_signals(_: int = 0) -> None:
    """Wait for SIGTERM from the parent in a process that `held_back` protects, and end then."""
    if hasattr(signal, "sigwaitinfo"):
        threading.Thread(target=_wait_for_parent, daemon=True).start()


def end_by_signals() -> None:
    """In a worker of a pool: signals end it, whatever its parent does on them.

    A handler written in Python that is inherited may wait forever: it runs between two steps of
    Python, and a worker that waits for work makes none. ``Pool.terminate`` then waits for it.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _wait_for_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _may_listen() -> bool:
    return threading.current_thread() is threading.main_thread()


def _listen() -> None:
    if _may_listen():
        for number in SIGNALS:
            if number not in _ear.ignored:
                signal.signal(number, _hear)


def _hear(number: int, _: FrameType | None) -> None:
    if os.getpid() != _ear.owner:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    now, first = time.monotonic(), not _ear.heard
    if first:
        _ear.heard, _ear.since = number, now
    if not _ear.waiting if first else now - _ear.since > ECHO:
        raise Stopped(_ear.heard)
    if first and is_first_process():
        name = signal.Signals(number).name
        # Printing is unsafe within a signal handler.
        os.write(2, f"{name}: ends after the running step; a second signal ends at once\n".encode())
