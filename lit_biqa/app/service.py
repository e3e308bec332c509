"""Service of a server: a scorer, a model that writes, or both, each behind its queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from lit_biqa import limits
from lit_biqa.analysis.case import Case
from lit_biqa.app.batches import BatchQueue
from lit_biqa.app.pictures import Picture, PictureScorer, Scored
from lit_biqa.app.settings import ServerLimits
from lit_biqa.app.writing import PictureWriter, Task

_TICK = 0.1  # seconds between two looks at an unfinished text


class Service:
    """Scores pictures and has texts written about them, for all clients of a server.

    Args:
        scorer: scorer of pictures; ``None`` if only texts are written.
        writer: model that writes; ``None`` if pictures are only scored.
        given: limits of the server.
        title: what answers, in a few words, such as the file of the scorer.

    Attributes:
        scoring: queue of the scorer.
        writing: queue of the model that writes.
    """

    def __init__(
        self,
        scorer: PictureScorer | None,
        writer: PictureWriter | None,
        given: ServerLimits,
        title: str = "",
    ) -> None:
        self.limits, self.title = given, title
        self.scoring = None if scorer is None else BatchQueue(scorer, capacity=given.waiting)
        self.writing = (
            None
            if writer is None
            else BatchQueue(writer, size=1, delay=0, capacity=limits.WAITING_WRITTEN)
        )

    async def score(self, pictures: Sequence[Picture]) -> list[Scored]:
        """Score pictures, together with those of other clients.

        Raises:
            QueueFull: if too many wait.
            asyncio.CancelledError: if the request ends before; what waits is then given up.
        """
        assert self.scoring is not None
        futures = self.scoring.submit(pictures)
        try:
            return list(await asyncio.gather(*map(asyncio.wrap_future, futures)))
        finally:
            for picture in pictures:
                picture.stop.set()

    async def write(self, picture: Picture) -> AsyncIterator[list[str] | Case]:
        """Texts of all passes so far, as often as they change; the last item is the whole answer.

        Raises:
            QueueFull: if too many wait.
            TimeoutError: if there is no answer within the time of a request.
        """
        assert self.writing is not None
        deadline = time.monotonic() + self.limits.seconds
        heard: list[list[str]] = []
        task = Task(picture, heard.append)
        answer = asyncio.wrap_future(self.writing.submit([task])[0])
        try:
            told = 0
            while not answer.done():
                if time.monotonic() > deadline:
                    raise TimeoutError
                await asyncio.wait([answer], timeout=_TICK)
                if len(heard) > told:
                    told = len(heard)
                    yield heard[-1]
            yield answer.result()
        finally:
            task.stop.set()
            answer.cancel()

    def close(self) -> None:
        """End the threads of both queues."""
        for queue in (self.scoring, self.writing):
            if queue is not None:
                queue.close()
