"""Servers to ask: a real one in a process of its own, and one that fails as it is told to."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REAL = Path(__file__).with_name("serve.py")
LIMIT = 600.0  # seconds until a sound server listens, on the busiest machine


class RealServer:
    """``transformers serve`` of a folder, which can be killed and started again at its port.

    Args:
        model: folder of the model.
        log: file of what it prints.
    """

    def __init__(self, model: Path, log: Path) -> None:
        self.model, self.log, self.port = model, log, 0
        self.start()

    def start(self) -> None:
        """Start it, at a free port or at the port it had, and wait until it listens."""
        quiet = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        place = ["--host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, REAL, "serve", self.model, "--device", "cpu", *place],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | quiet,
            )
        self.port = self._port()

    def _port(self) -> int:
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            text = self.log.read_text(errors="replace")
            if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", text):
                return int(found[1])
            assert self.process.poll() is None, text
            time.sleep(0.1)
        raise AssertionError(f"not ready after {LIMIT:.0f} s:\n{text}")

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()


Reply = tuple[int, Any, dict[str, str]]
"""Status, content (a string is sent as it is), and headers."""


def said(text: str | None, ended: str = "stop", **more: Any) -> Reply:
    """Reply with an answer."""
    message = {"role": "assistant", "content": text} | more
    return 200, {"choices": [{"message": message, "finish_reason": ended}]}, {}


def likely(**odds: float) -> Reply:
    """Reply with log-probabilities of tokens."""
    from math import log

    tokens = [{"token": token, "logprob": log(value)} for token, value in odds.items()]
    choice: dict[str, Any] = {"message": {"content": ""}, "finish_reason": "length"}
    choice["logprobs"] = {"content": [{"top_logprobs": tokens}]}
    return 200, {"choices": [choice]}, {}


class FaultyServer(ThreadingHTTPServer):
    """Server of the model ``tiny`` that answers each request as ``reply`` says.

    Attributes:
        reply: from a request to its reply.
        key: key that it wants; empty for none.
        asked: requests so far.
    """

    daemon_threads = True
    reply: Callable[[dict[str, Any]], Reply]
    key: str = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, Any]] = []
        self.models: Any = {"data": [{"id": "tiny"}]}

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    def script(self, replies: Sequence[Reply]) -> None:
        """Give these replies in turn, and the last one ever after."""
        left = list(replies)
        self.reply = lambda request: left.pop(0) if len(left) > 1 else left[0]


class _Handler(BaseHTTPRequestHandler):
    server: FaultyServer

    def do_GET(self) -> None:
        self._send((200, self.server.models, {}))

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(request)
        self._send(self.server.reply(request))

    def _send(self, reply: Reply) -> None:
        status, content, headers = reply
        sent = self.headers.get("Authorization", "")
        if self.server.key and sent != f"Bearer {self.server.key}":
            status, content = 401, {"error": {"message": f"no such key: {sent}"}}
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        usual = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        self.send_response(status)
        for name, value in (usual | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@contextmanager
def faulty() -> Iterator[FaultyServer]:
    """A `FaultyServer` that listens."""
    with FaultyServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
