"""Lock of a run folder: one fit at a time."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from lit_biqa.types import InputError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"


class RunLock:
    """Lock on a run folder: holds ``.lock``, which names the process, until `release`.

    It is a record lock: the operating system frees it when the process ends in any way, and the
    workers, which may outlive the process by seconds, never hold it. File systems without locks go
    without.

    Args:
        folder: the run folder; it must exist.

    Raises:
        InputError: if a running fit holds the lock.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._held: int | None = None
        while fcntl is not None and self._held is None:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.read(descriptor, 200).decode(errors="replace").strip()
                os.close(descriptor)
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    return
                raise InputError(
                    f"a fit is running in {folder} ({holder or 'just begun'}): wait until it "
                    f"ends, or name another folder with --run."
                ) from error
            if self._is_current(descriptor):
                self._held = descriptor
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            else:
                os.close(descriptor)

    def _is_current(self, descriptor: int) -> bool:
        """False if the previous holder of the lock removed the file that was opened here."""
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Free the lock and remove the file."""
        if self._held is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            os.close(self._held)
            self._held = None

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
