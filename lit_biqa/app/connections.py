"""Connections of clients, of which those that ask nothing are closed."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_TIMEOUT = 20.0
"""Seconds in which a connection must have sent the head of its first, or of its next request."""


class Connection(H11Protocol):  # type: ignore[misc, unused-ignore]
    """HTTP connection that is closed where no request comes: idle ones would shut others out."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override, unused-ignore]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.loop.call_later(HEAD_TIMEOUT, self._close_if_silent, None)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request: uvicorn's own wait ends with the first byte of it."""
        last = self.cycle
        super().on_response_complete()
        self.loop.call_later(HEAD_TIMEOUT, self._close_if_silent, last)

    def _close_if_silent(self, last: Any) -> None:
        if self.cycle is last and not self.transport.is_closing():
            self.transport.close()
