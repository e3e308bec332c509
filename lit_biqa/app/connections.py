"""Connections of clients, of which those that ask nothing are closed."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

FIRST_REQUEST = 20.0
"""Seconds in which a new connection must have sent the head of its first request."""


class Connection(H11Protocol):  # type: ignore[misc, unused-ignore]
    """HTTP connection that is closed where no request comes: idle ones would shut others out."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override, unused-ignore]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.loop.call_later(FIRST_REQUEST, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()
