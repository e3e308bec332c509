"""Signals that ask a run to end: heard by one process, obeyed by all, where nothing is lost.

While a command is set up a signal ends it at once. Once its loops run, a signal waits for the next
point at which state can be kept and all ranks agree. A second signal never waits.
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

#: SIGTERM and SIGINT, and SIGUSR1, which clusters send before a job's time is up.
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)

# Launchers hand on what their whole group has heard already; that is no second signal.
ECHO = 1.0  # seconds


class Stopped(BaseException):
    """A signal has ended the command; no `Exception`, so that no library takes it for its own.

    Args:
        number: of the signal.
        together: whether all ranks raise it at the same point, so that they can still save.
    """

    def __init__(self, number: int, together: bool = False) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number, self.together = number, together
        self.advice = ""

    @property
    def status(self) -> int:
        """The exit status by which shells know the signal: 143, 130 or 138."""
        return 128 + self.number


@dataclass
class _Ear:
    """What this process has heard.

    Attributes:
        owner: the process that listens; its forks do as if nobody did.
        ignored: signals that whoever started the command wants ignored.
        heard: the first signal, 0 before.
        since: when it came, on the monotonic clock.
        waiting: whether a signal waits for `asked`.
    """

    owner: int = 0
    ignored: tuple[int, ...] = ()
    heard: int = 0
    since: float = 0.0
    waiting: bool = False


_ear = _Ear()


@contextmanager
def heard() -> Iterator[None]:
    """Listen for the length of a command; what was done on signals before is put back."""
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
    """From here on signals wait for `asked`; Lightning, which sets its own actions, is undone."""
    if _ear.owner == os.getpid():
        _ear.waiting = True
        _listen()


def at_once() -> None:
    """From here on a signal ends the command at once."""
    _ear.waiting = False


def asked(device: torch.device) -> int:
    """The signal that any rank has heard, or 0. All ranks must ask at the same point.

    Args:
        device: on which ranks talk to each other.
    """
    return highest(_ear.heard if _ear.waiting else 0, device)


def check(device: torch.device) -> None:
    """End here if any rank was asked to; all ranks must call it at the same point.

    Raises:
        Stopped: on every rank.
    """
    if number := asked(device):
        raise Stopped(number, together=True)


@contextmanager
def held_back() -> Iterator[None]:
    """Processes started within do not hear the signals, which often go to a whole group.

    Workers of a loader would end, and the step that is to be finished would lack its images. They
    must call `outlive_signals`.
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
    """In a process that `held_back` protects: end by SIGTERM where its own parent sends it."""
    if hasattr(signal, "sigwaitinfo"):
        threading.Thread(target=_wait_for_parent, daemon=True).start()


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
    if first and os.environ.get("LOCAL_RANK", "0") == "0":
        name = signal.Signals(number).name
        # Printing is not safe within a signal's action.
        os.write(2, f"{name}: the running step is finished; a second one ends at once\n".encode())
