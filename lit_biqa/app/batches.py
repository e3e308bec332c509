"""Batches formed across clients: a bounded queue and one thread that works on it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFull(Exception):  # noqa: N818  reads better where it is raised
    """More items wait than the queue holds; none of the new ones was taken."""


class BatchQueue(Generic[Item, Result]):
    """Queue whose items are worked on together, whoever sent them.

    The thread takes what waits, at most ``size`` items; if fewer wait, it first gives others
    ``delay`` seconds to arrive.

    Example:
        >>> queue = BatchQueue(lambda numbers: [2 * number for number in numbers])
        >>> [future.result() for future in queue.submit([1, 2])]
        [2, 4]

    Args:
        work: function of a batch of items to their results, in the same order.
        size: most items of a batch.
        delay: seconds that a batch waits for further items.
        capacity: most items that wait.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        size: int = 16,
        delay: float = 0.005,
        capacity: int = 400,
    ) -> None:
        self.work, self.size, self.delay, self.capacity = work, size, delay, capacity
        self._line: deque[tuple[Item, Future[Result]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of items that wait."""
        return len(self._line)

    def submit(self, items: Sequence[Item]) -> list[Future[Result]]:
        """Add all items, or none. A future that is cancelled in time is not worked on.

        Raises:
            QueueFull: if too many wait, or the queue is closed.
        """
        with self._changed:
            if self._closed or len(self._line) + len(items) > self.capacity:
                raise QueueFull
            jobs = [(item, Future[Result]()) for item in items]
            self._line.extend(jobs)
            self._changed.notify()
        return [future for _, future in jobs]

    def close(self) -> None:
        """Cancel what waits, and end the thread after its batch."""
        with self._changed:
            self._closed = True
            jobs = list(self._line)
            self._line.clear()
            self._changed.notify()
        for _, future in jobs:
            future.cancel()
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._next():
            running = [job for job in jobs if job[1].set_running_or_notify_cancel()]
            if running:
                self._finish(running)

    def _next(self) -> list[tuple[Item, Future[Result]]]:
        """Next batch; empty once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._line or self._closed)
            self._changed.wait_for(
                lambda: len(self._line) >= self.size or self._closed, timeout=self.delay
            )
            return [self._line.popleft() for _ in range(min(self.size, len(self._line)))]

    def _finish(self, jobs: Sequence[tuple[Item, Future[Result]]]) -> None:
        try:
            results = self.work([item for item, _ in jobs])
        except BaseException as error:  # it belongs to those who wait, and the thread goes on
            for _, future in jobs:
                future.set_exception(error)
            return
        for (_, future), result in zip(jobs, results, strict=True):
            future.set_result(result)
