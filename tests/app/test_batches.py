"""Batches across clients: what waits together is worked on together, and no more than fits."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError

import pytest

from lit_biqa.app.batches import BatchQueue, QueueFull


class Gate:
    """Work that waits until the gate is opened, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.begun.set()
        assert self.open.wait(30)
        if -1 in items:
            raise ArithmeticError("no root")
        return [item * item for item in items]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def queue(gate: Gate) -> Iterator[BatchQueue[int, int]]:
    """A queue of six items whose batches have four; its first batch holds 0 and waits."""
    queue = BatchQueue(gate, size=4, delay=0.001, capacity=6)
    queue.submit([0])
    assert gate.begun.wait(30)
    yield queue
    gate.open.set()
    queue.close()


def test_items_of_several_clients_are_one_batch(queue: BatchQueue[int, int], gate: Gate) -> None:
    futures = [*queue.submit([1, 2]), *queue.submit([3]), *queue.submit([4, 5])]
    assert queue.waiting == 5
    gate.open.set()
    assert [future.result(30) for future in futures] == [1, 4, 9, 16, 25]
    assert gate.batches == [[0], [1, 2, 3, 4], [5]]


def test_a_full_queue_takes_all_or_none(queue: BatchQueue[int, int], gate: Gate) -> None:
    first = queue.submit([1, 2, 3, 4])
    with pytest.raises(QueueFull):
        queue.submit([5, 6, 7])
    second = queue.submit([8, 9])
    gate.open.set()
    assert [future.result(30) for future in first + second] == [1, 4, 9, 16, 64, 81]


def test_a_client_that_leaves_is_not_worked_for(queue: BatchQueue[int, int], gate: Gate) -> None:
    left, stays = queue.submit([1, 2])
    assert left.cancel()
    gate.open.set()
    assert stays.result(30) == 4
    assert gate.batches == [[0], [2]]


def test_an_error_reaches_its_batch_alone(queue: BatchQueue[int, int], gate: Gate) -> None:
    failing = queue.submit([-1, 1, 2, 3])
    after = queue.submit([4])
    gate.open.set()
    for future in failing:
        with pytest.raises(ArithmeticError, match="no root"):
            future.result(30)
    assert after[0].result(30) == 16


def test_a_closed_queue_gives_up_what_waits(queue: BatchQueue[int, int], gate: Gate) -> None:
    (waiting,) = queue.submit([1])
    threading.Timer(0.05, gate.open.set).start()
    queue.close()
    with pytest.raises(CancelledError):
        waiting.result(30)
    with pytest.raises(QueueFull):
        queue.submit([2])
