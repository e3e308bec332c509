"""One fit at a time in a run folder."""

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
    """Holds ``.lock`` of a run folder, with the process that holds it, until it is let go.

    It is a record lock: a process that ends in any way lets it go, and its workers, which may
    outlive it by seconds, never had it. Disks that know no locks go without.

    Args:
        folder: of the run; it must exist.

    Raises:
        InputError: if a fit that is still running holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._held: int | None = None
        while fcntl is not None and self._held is None:
            held = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            try:
                fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.read(held, 200).decode(errors="replace").strip()
                os.close(held)
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    return
                raise InputError(
                    f"a fit is running in {folder} ({holder or 'just begun'}): wait until it "
                    f"ends, or name another folder with --run."
                ) from error
            if self._is_current(held):
                self._held = held
                os.ftruncate(held, 0)
                os.write(held, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            else:
                os.close(held)

    def _is_current(self, held: int) -> bool:
        """Whether the file is the one that others would open: who had it before removes it."""
        try:
            return os.path.samestat(os.fstat(held), self.path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let go, and remove the file."""
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
