"""The API: scores equal the scorer's own, faults have one line, limits hold, nothing is kept."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from served_pages import picture_bytes, tiny_scorer

pytest.importorskip("gradio", reason="the page needs the extra serve")

# isort: split

from starlette.testclient import TestClient

from lit_biqa.app import api, server
from lit_biqa.app.examples import Example
from lit_biqa.app.guards import RequestRate
from lit_biqa.app.pictures import Picture, PictureScorer, Scored
from lit_biqa.app.service import Service
from lit_biqa.app.settings import ServerLimits
from lit_biqa.app.uploads import Upload, Uploads
from lit_biqa.scoring.scorer import Scorer
from lit_biqa.types import InputError

FREE = ServerLimits(per_minute=10_000)
HERE = "http://127.0.0.1"


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return tiny_scorer(tmp_path_factory.mktemp("scorer"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which the server makes its own."""
    return tmp_path_factory.mktemp("uploads")


@contextmanager
def client_of(scorer: Any, folder: Path, given: ServerLimits = FREE) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(folder))
        with (
            server.application(Service(scorer, None, given, "tiny")) as app,
            TestClient(app, base_url=HERE) as client,
        ):
            yield client


@pytest.fixture(scope="module")
def client(scorer: Scorer, folder: Path) -> Iterator[TestClient]:
    examples = [Example("own", f"{place}.png", 3.0, (f"text {place}",)) for place in range(6)]
    with client_of(PictureScorer(scorer, examples=examples), folder) as client:
        yield client


def form(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("picture", file) for file in files]


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_scores_are_those_of_the_scorer(
    client: TestClient, scorer: Scorer, folder: Path, tmp_path: Path
) -> None:
    files = [(f"{seed}.png", picture_bytes(seed)) for seed in range(3)]
    paths = [tmp_path / name for name, _ in files]
    for path, (_, content) in zip(paths, files, strict=True):
        path.write_bytes(content)
    answer = client.post("/score", files=form(*files))
    assert answer.status_code == 200
    told = answer.json()["pictures"]
    assert [one["name"] for one in told] == ["0.png", "1.png", "2.png"]
    assert [one["score"] for one in told] == pytest.approx(scorer(paths).tolist(), abs=1e-4)
    assert {one["status"] for one in told} == {"ok"}
    assert files_in(folder) == []


def test_prototypes_make_up_the_score(client: TestClient, scorer: Scorer) -> None:
    answer = client.post("/score?nearest=6", files=form(("a.png", picture_bytes(4))))
    (one,) = answer.json()["pictures"]
    shares = [near["weight"] for near in one["nearest"]]
    assert sum(shares) == pytest.approx(1, abs=1e-4)
    assert shares == sorted(shares, reverse=True)
    mean = sum(near["weight"] * near["score"] for near in one["nearest"])
    assert one["score"] == pytest.approx(mean, abs=1e-3)
    for near in one["nearest"]:
        assert near["score"] == pytest.approx(float(scorer.head.scores[near["prototype"]]))
        assert near["example"]["texts"] == [f"text {near['prototype']}"]


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("cut.png", picture_bytes(0)[:300], "truncated"),
        ("text.jpg", b"no picture at all", "not an image"),
        ("empty.jpg", b"", "not an image"),
        ("small.png", picture_bytes(0, side=4), "too small to rate"),
        ("<b>.png", b"\x00", "not an image"),
    ],
)
def test_a_broken_picture_has_its_line_beside_a_good_one(
    client: TestClient, folder: Path, name: str, content: bytes, status: str
) -> None:
    files = form((name, content), ("good.png", picture_bytes(1)))
    broken, good = client.post("/score", files=files).json()["pictures"]
    assert (broken["name"], broken["score"], broken["level"]) == (name, None, "")
    assert status in broken["status"]
    assert "\n" not in broken["status"]
    assert str(folder) not in broken["status"]
    assert good["status"] == "ok"
    assert files_in(folder) == []


def test_wrong_requests_have_one_line(client: TestClient) -> None:
    assert client.post("/score").json()["error"].startswith("no picture, or a form that is cut")
    assert client.get("/openapi.json").status_code == 404
    good = form(("a.png", picture_bytes(0)))
    for query in ("nearest=-1", "nearest=x", "nearest=21", "nearest=²", f"nearest={'9' * 5000}"):
        answer = client.post(f"/score?{query}", files=good)
        assert (answer.status_code, answer.json()["error"]) == (
            400,
            "nearest must be a number from 0 to 20",
        )
    answer = client.post("/write", files=good)
    assert (answer.status_code, "ask /score" in answer.json()["error"]) == (404, True)


def test_limits_on_what_is_sent(scorer: Scorer, folder: Path) -> None:
    given = ServerLimits(
        picture_bytes=9_000, picture_pixels=3_000, pictures=3, request_bytes=30_000
    )
    large, wide = picture_bytes(0, "BMP", 60), picture_bytes(0, "JPEG", 56)
    with client_of(PictureScorer(scorer, given.picture_pixels), folder, given) as client:
        files = form(("large.bmp", large), ("wide.jpg", wide), ("good.png", picture_bytes(0)))
        told = client.post("/score", files=files).json()["pictures"]
        assert told[0]["status"] == f"{len(large) / 1e6:.1f} MB are more than the 0.0 MB allowed"
        assert "pixels are more than the 3,000 allowed" in told[1]["status"]
        assert told[2]["status"] == "ok"
        many = client.post("/score", files=form(*[("a.png", b"x")] * 4))
        assert (many.status_code, "3" in many.json()["error"]) == (400, True)
        heavy = client.post("/score", files=form(("a.png", bytes(40_000))))
        assert (heavy.status_code, "0 MB" in heavy.json()["error"]) == (413, True)
        unannounced = client.post(
            "/score",
            content=(bytes(1000) for _ in range(40)),
            headers={"content-type": "multipart/form-data; boundary=x"},
        )
        assert unannounced.status_code == 413
    assert files_in(folder) == []


class Slow:
    """Scores nothing until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, pictures: Sequence[Picture]) -> list[Scored]:
        self.begun.set()
        assert self.go.wait(30)
        return [Scored(picture.name, 3.0) for picture in pictures]


def test_a_request_has_a_time_limit(folder: Path) -> None:
    slow = Slow()
    with client_of(slow, folder, ServerLimits(seconds=1)) as client:
        answer = client.post("/score", files=form(("a.png", b"x")))
        slow.go.set()
    assert (answer.status_code, answer.json()["error"]) == (
        504,
        "no answer within 1 s: send less",
    )
    assert files_in(folder) == []


def test_a_full_queue_is_told(folder: Path) -> None:
    slow, one = Slow(), form(("a.png", b"x"))

    def ask(client: TestClient, waiting: int) -> threading.Thread:
        """Send a picture from a thread, and wait until that many wait in the queue."""
        thread = threading.Thread(target=client.post, args=("/score",), kwargs={"files": one})
        thread.start()
        slow.begun.wait(30)
        while client.get("/health").json()["waiting"] < waiting:
            time.sleep(0.01)
        return thread

    with client_of(slow, folder, ServerLimits(pictures=2, waiting=2)) as client:
        threads = [ask(client, waiting) for waiting in range(3)]
        refused = client.post("/score", files=one)
        slow.go.set()
        for thread in threads:
            thread.join()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["error"].startswith("too many pictures wait")


def test_a_client_that_asks_too_often_waits(scorer: Scorer, folder: Path) -> None:
    with client_of(PictureScorer(scorer), folder, ServerLimits(per_minute=3)) as client:
        asked = [client.post("/score", files=form(("a.png", b"x"))) for _ in range(4)]
        assert [answer.status_code for answer in asked] == [200, 200, 200, 429]
        assert 1 <= int(asked[-1].headers["retry-after"]) <= 20
        assert asked[-1].json()["error"].startswith("more than 3 requests in a minute")
        assert client.get("/health").status_code == 200


def test_tokens_come_back_steadily() -> None:
    now = 0.0
    rate = RequestRate(2, clock=lambda: now)
    assert [rate.wait("a") for _ in range(3)] == [0, 0, 30]
    assert rate.wait("b") == 0
    now = 29.0
    assert rate.wait("a") == 1
    now = 30.0
    assert [rate.wait("a") for _ in range(2)] == [0, 30]
    now = 1000.0
    assert [rate.wait("a") for _ in range(3)] == [0, 0, 30]


def test_no_page_elsewhere_asks_and_none_is_loaded(client: TestClient) -> None:
    assert client.get("/health", headers={"host": "evil.example"}).status_code == 400
    page = client.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert "swagger" not in client.get(path).text.lower()


def test_files_of_the_page_are_swept(client: TestClient, folder: Path) -> None:
    (path,) = client.post(api.UPLOAD, files=[("files", ("a.png", picture_bytes(0)))]).json()
    assert files_in(folder) == [Path(path)]
    assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)
    uploads = Uploads(Path(path).parent.parent, 10**6, 60)
    uploads.sweep()
    assert Path(path).is_file()
    uploads.seconds = -1
    uploads.picture("a", Path(path))
    uploads.sweep()
    assert Path(path).is_file()
    uploads.forget([Path(path)])
    assert files_in(folder) == []
    uploads.keep(Upload("b", 1, io.BytesIO(b"b")))
    uploads.sweep()
    assert files_in(folder) == []


def test_no_other_file_is_read_or_deleted(folder: Path, tmp_path: Path) -> None:
    uploads = Uploads(folder, 10**6, 60)
    secret = tmp_path / "picture"
    secret.write_bytes(picture_bytes(0))
    for path in (secret, folder / "upload-x" / ".." / ".." / tmp_path.name / "picture"):
        assert uploads.picture("a", path).reason == "no longer here: upload it again"
        uploads.forget([path])
    assert secret.is_file()


def test_the_folder_ends_with_the_server(scorer: Scorer, tmp_path: Path) -> None:
    with client_of(PictureScorer(scorer), tmp_path) as client:
        client.post(api.UPLOAD, files=[("files", ("a.png", picture_bytes(0)))])
        assert len(files_in(tmp_path)) == 1
    assert list(tmp_path.iterdir()) == []


def test_connections_that_ask_nothing_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_biqa.app.connections.HEAD_TIMEOUT", 0.2)
    listener = server.listening("127.0.0.1", 0)
    address = listener.getsockname()

    async def healthy(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    threading.Thread(target=server.run, args=(healthy, listener), daemon=True).start()
    with socket.create_connection(address, timeout=20) as silent:
        assert silent.recv(1) == b""
    with socket.create_connection(address, timeout=20) as asking:
        asking.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert asking.recv(12) == b"HTTP/1.1 204"
        asking.sendall(b"GET /hea")  # and nothing more
        while asking.recv(1000):
            pass


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.2", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a", False)],
)
def test_addresses_on_loopback(host: str, local: bool) -> None:
    assert server.on_loopback(host) == local


def test_wrong_limits_and_addresses() -> None:
    with pytest.raises(InputError, match="seconds=0: give at least 1"):
        ServerLimits(seconds=0)
    with pytest.raises(InputError, match="raise waiting"):
        ServerLimits(pictures=10, waiting=9)
    with (
        server.listening("127.0.0.1", 0) as taken,
        pytest.raises(InputError, match="Name another --port"),
    ):
        server.listening("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(InputError, match="port 99999"):
        server.listening("127.0.0.1", 99999)
