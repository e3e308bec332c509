"""Routes for programs, such as ``curl -F picture=@photo.jpg http://127.0.0.1:7860/score``."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from lit_biqa.analysis.case import Case
from lit_biqa.app.batches import QueueFull
from lit_biqa.app.pictures import Scored
from lit_biqa.app.service import Service
from lit_biqa.app.uploads import Upload, Uploads

UPLOAD = "/gradio_api/upload"
"""Route to which the page sends files. It stands in front of gradio's own, which keeps files under
a name that clients with the same picture share, so that none could delete its own."""

_MOST_NEAREST = 20
_SWEEP = 30.0  # seconds between two looks for files that nobody asked about

Handler = Callable[[Request], Awaitable[Response]]


class Api:
    """Handlers of the routes.

    Args:
        service: what answers.
        uploads: folder of the files that clients send.
    """

    def __init__(self, service: Service, uploads: Uploads) -> None:
        self.service, self.uploads = service, uploads

    async def health(self, request: Request) -> Response:
        """Answer of ``/health``: who serves, and how many pictures wait."""
        scoring = self.service.scoring
        return JSONResponse(
            {"serves": self.service.title, "waiting": scoring.waiting if scoring else 0}
        )

    async def score(self, request: Request) -> Response:
        """Scores of the pictures of a form, in their order."""
        if self.service.scoring is None:
            raise HTTPException(404, "this server has no scorer: ask /write")
        nearest = _number(request, "nearest", _MOST_NEAREST)
        async with self._kept(request) as files:
            pictures = [self.uploads.picture(name, path, nearest) for name, path in files]
            scored = await self.service.score(pictures)
        return JSONResponse({"pictures": [row_of(one) for one in scored]})

    async def write(self, request: Request) -> Response:
        """Caption, reasoning and rating of one picture."""
        if self.service.writing is None:
            raise HTTPException(404, "this server has no model that writes: ask /score")
        async with self._kept(request) as files:
            if len(files) > 1:
                raise HTTPException(400, "name one picture for /write")
            picture = self.uploads.picture(*files[0])
            told = [item async for item in self.service.write(picture)]
        case = told[-1]
        assert isinstance(case, Case)
        return JSONResponse(written_of(files[0][0], case))

    async def upload(self, request: Request) -> Response:
        """Paths of the files that the page sends, which it asks about afterwards."""
        kept = await self._keep(request)
        return JSONResponse([str(path) for _, path in kept])

    async def progress(self, request: Request) -> Response:
        """End of the events that tell a page how far its files are: they are there at once."""
        return Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")

    @asynccontextmanager
    async def _kept(self, request: Request) -> AsyncIterator[list[tuple[str, Path]]]:
        files = await self._keep(request)
        try:
            yield files
        finally:
            self.uploads.forget([path for _, path in files])

    async def _keep(self, request: Request) -> list[tuple[str, Path]]:
        """Names and paths of the files of a form.

        Raises:
            HTTPException: if it has none, or too many.
        """
        most = self.service.limits.pictures
        async with request.form(max_files=most) as form:
            sent = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            if not sent:
                raise HTTPException(
                    400,
                    "no picture, or a form that is cut off: send a form, as curl -F "
                    "picture=@photo.jpg",
                )
            found = [Upload(one.filename or "picture", one.size or 0, one.file) for one in sent]
            return await anyio.to_thread.run_sync(self._written, found)

    def _written(self, found: Sequence[Upload]) -> list[tuple[str, Path]]:
        return [(one.name, self.uploads.keep(one)) for one in found]


def row_of(scored: Scored) -> dict[str, Any]:
    """Answer about a scored picture, for JSON."""
    answer: dict[str, Any] = {
        "name": scored.name,
        "score": scored.score if math.isfinite(scored.score) else None,
        "level": scored.level,
        "status": scored.status,
    }
    if scored.nearest:
        answer["nearest"] = [asdict(near) for near in scored.nearest]
    return answer


def written_of(name: str, case: Case) -> dict[str, Any]:
    """Answer of a model that writes, for JSON."""
    return {
        "name": name,
        "rating": case.score if math.isfinite(case.score) else None,
        "level": case.level,
        "status": case.status,
        "caption": case.caption,
        "reasoning": case.reasoning,
    }


def _number(request: Request, name: str, most: int) -> int:
    """A whole number of the query, 0 where it is absent."""
    given = request.query_params.get(name, "0")
    # Of digits without end int would make an error of its own.
    if not (given.isascii() and given.isdecimal() and len(given) < 9 and int(given) <= most):
        raise HTTPException(400, f"{name} must be a number from 0 to {most}")
    return int(given)


def make_api(service: Service, uploads: Uploads) -> FastAPI:
    """Application with the routes of the API; files are deleted and threads end with it."""

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(uploads))
        yield
        sweeping.cancel()
        service.close()

    api = Api(service, uploads)
    app = FastAPI(lifespan=running, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/health", api.health, methods=["GET"])
    app.add_api_route(f"{UPLOAD}_progress", api.progress, methods=["GET"])
    for path, handler in {
        "/score": api.score,
        "/write": api.write,
        UPLOAD: api.upload,
    }.items():
        app.add_api_route(path, _timed(handler, service.limits.seconds), methods=["POST"])
    app.add_exception_handler(HTTPException, _told)
    app.add_exception_handler(QueueFull, _busy)
    return app


def _timed(handler: Handler, seconds: float) -> Handler:
    async def timed(request: Request) -> Response:
        try:
            async with asyncio.timeout(seconds):
                return await handler(request)
        except ClientDisconnect:  # nobody reads the answer
            return Response(status_code=499)
        except TimeoutError:
            raise HTTPException(504, f"no answer within {seconds} s: send less") from None
        except asyncio.CancelledError:  # of those that a server which ends waits for no longer
            raise HTTPException(503, "the server ends", {"Retry-After": "5"}) from None

    return timed


async def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _busy(request: Request, error: Exception) -> Response:
    message = "too many pictures wait: try again in a second"
    return JSONResponse({"error": message}, 503, {"Retry-After": "1"})


async def _sweep(uploads: Uploads) -> None:
    while True:
        await asyncio.sleep(_SWEEP)
        await anyio.to_thread.run_sync(uploads.sweep)
