"""Guards in front of all routes: how often a client asks, how much it sends, what a page loads."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# The page's scripts are inline or of this server, and so is all that it shows: a browser refuses
# to load from elsewhere.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; form-action 'self'; base-uri 'self'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_MOST_CLIENTS = 10_000  # addresses remembered


class RequestRate:
    """Requests of each client in a minute: a bucket of that many tokens, filled steadily.

    Example:
        >>> rate = RequestRate(2, clock=lambda: 0.0)
        >>> [rate.wait("1.2.3.4") for _ in range(3)]
        [0, 0, 30]

    Args:
        per_minute: tokens of a bucket, and of a minute.
        clock: seconds.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self.clock = per_minute, clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait(self, client: str) -> int:
        """Seconds until a client may ask again; 0 takes one of its tokens."""
        now = self.clock()
        tokens, then = self._buckets.pop(client, (float(self.per_minute), now))
        tokens = min(self.per_minute, tokens + (now - then) * self.per_minute / 60)
        allowed = tokens >= 1
        while len(self._buckets) >= _MOST_CLIENTS:  # the one that has not asked for longest
            self._buckets.pop(next(iter(self._buckets)))
        self._buckets[client] = (tokens - allowed, now)
        return 0 if allowed else math.ceil((1 - tokens) * 60 / self.per_minute)


class Guards:
    """ASGI middleware that refuses POST requests which come too often or are too large.

    Each answer gets headers by which a browser loads nothing from other servers.

    Args:
        app: the guarded application.
        per_minute: requests of one client address in a minute.
        max_bytes: most bytes of a request.
    """

    def __init__(self, app: App, per_minute: int, max_bytes: int) -> None:
        self.app, self.rate, self.max_bytes = app, RequestRate(per_minute), max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send)
        if scope["method"] == "POST":
            if wait := self.rate.wait(scope["client"][0] if scope.get("client") else ""):
                error = f"more than {self.rate.per_minute} requests in a minute"
                await answer.refuse(429, f"{error}: try again in {wait} s", wait)
                return
            if int(dict(scope["headers"]).get(b"content-length", b"0")) > self.max_bytes:
                await answer.refuse(413, self._too_large)
                return
            receive = self._counted(receive)
        await self.app(scope, receive, answer)

    @property
    def _too_large(self) -> str:
        return f"a request may have {self.max_bytes / 10**6:.0f} MB: send fewer pictures at once"

    def _counted(self, receive: Receive) -> Receive:
        """Count the bytes of a body whose length nobody announced."""
        left = self.max_bytes

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, self._too_large)
            return message

        return counted


class _Answer:
    """Sends an answer with the headers of all answers."""

    def __init__(self, send: Send) -> None:
        self.send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_HEADERS]
        await self.send(message)

    async def refuse(self, status: int, error: str, wait: int | None = None) -> None:
        """Answer with an error in one line."""
        body = json.dumps({"error": error}).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        if wait is not None:
            headers.append((b"retry-after", str(wait).encode()))
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": body})
