"""A server under load: clients that send one picture after another, all at once.

Server and clients share the machine. Each client keeps its connection and waits for each answer
before it sends the next picture, as a program does.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import numpy as np
from bench_rows import Row
from bench_startup import write_quickstart_like
from PIL import Image

_EDGE = "picture-edge"
_SIZE = (512, 384)  # pixels of the pictures, as of AGIQA-3K and LIVE
_PICTURES = 16  # different pictures, sent in turn
_PATIENCE = 120.0  # seconds for one answer


@dataclass
class Load:
    """What the clients met.

    Attributes:
        seconds: time of each answer.
        errors: requests without a score.
    """

    seconds: list[float] = field(default_factory=list)
    errors: int = 0


def measure(small: bool, scorer: Path | None) -> Iterator[Row]:
    """Rows of a server under load.

    Args:
        small: few clients for a second, to see that it runs.
        scorer: scorer file or run; one as large as the quickstart's, with random weights, if
            ``None``.
    """
    clients, seconds = (4, 1.0) if small else (32, 60.0)
    with tempfile.TemporaryDirectory() as made:
        if scorer is None:
            scorer = Path(made) / "scorer.safetensors"
            write_quickstart_like(scorer)
        with serving(scorer) as (port, process):
            bodies = [form(number) for number in range(_PICTURES)]
            put_under(port, bodies, clients, seconds / 10)  # fills caches and pools
            before, worked = resident(process), processor_seconds(process)
            load = put_under(port, bodies, clients, seconds)
            after, worked = resident(process), processor_seconds(process) - worked
    each = sorted(load.seconds)
    yield Row(f"requests without a score, {clients} clients", load.errors, "requests", 0)
    yield Row("pictures scored", len(each) / seconds, "images/s")
    yield Row("latency, median", 1000 * statistics.median(each), "ms")
    yield Row("latency, 95th percentile", 1000 * each[int(0.95 * len(each))], "ms")
    # Other load shows in all of the above, and in this least.
    yield Row("processor time of the server for a picture", 1000 * worked / len(each), "ms")
    yield Row("resident memory before", before / 2**20, "MiB")
    yield Row("resident memory after", after / 2**20, "MiB")
    yield Row("resident memory, after over before", after / before, "", 1.25)


@contextmanager
def serving(scorer: Path) -> Iterator[tuple[int, int]]:
    """Port and process number of a server."""
    command = [sys.executable, "-m", "lit_biqa", "serve", "--scorer", str(scorer), "--port", "0"]
    command += ["--device", "cpu", "--per-minute", str(10**9)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(command)} ended with {process.wait()}")
        try:
            yield int(line.rpartition(" (")[0].rpartition(":")[2]), process.pid
        finally:
            process.terminate()


def form(seed: int) -> bytes:
    """A form with one picture, as a browser sends it."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    stream = io.BytesIO()
    # Smooth, so that its file is as large as a photograph's.
    Image.fromarray(noise).resize(_SIZE, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=95)
    head = f'--{_EDGE}\r\nContent-Disposition: form-data; name="p"; filename="{seed}.jpg"\r\n\r\n'
    return head.encode() + stream.getvalue() + f"\r\n--{_EDGE}--\r\n".encode()


def put_under(port: int, bodies: list[bytes], clients: int, seconds: float) -> Load:
    """Have clients ask for some seconds, all at once."""
    load, lock, until = Load(), threading.Lock(), time.monotonic() + seconds

    def ask(number: int) -> None:
        turn = number
        connection = HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
        while time.monotonic() < until:
            began = time.perf_counter()
            scored = answered(connection, bodies[turn % len(bodies)])
            taken = time.perf_counter() - began
            turn += 1
            with lock:
                if scored:
                    load.seconds.append(taken)
                else:
                    load.errors += 1
        connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load


def answered(connection: HTTPConnection, body: bytes) -> bool:
    """True if a picture got its score."""
    headers = {"Content-Type": f"multipart/form-data; boundary={_EDGE}"}
    try:
        connection.request("POST", "/score", body, headers)
        answer = connection.getresponse()
        told = json.loads(answer.read())
    except (OSError, HTTPException):
        connection.close()
        return False
    return answer.status == 200 and told["pictures"][0]["status"] == "ok"


def resident(process: int) -> int:
    """Bytes of memory that a process holds, as Linux tells it."""
    status = Path(f"/proc/{process}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return 1024 * int(line.split()[1])


def processor_seconds(process: int) -> float:
    """Processor time that a process has used, in all of its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
