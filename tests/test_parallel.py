"""Batches over processes, and rows brought together from them."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from lit_biqa.distributed import GlobalBatchSampler, all_gather, gather_rows, world
from lit_biqa.types import InputError

Keys = list[list[tuple[int, int]]]


def draws(size: int, batch: int, ranks: int = 1, epoch: int = 0, **options: bool) -> list[Keys]:
    """The batches of every rank."""
    found = []
    for rank in range(ranks):
        shuffle = options.get("shuffle", True)
        drop_last = options.get("drop_last", False)
        sampler = GlobalBatchSampler(size, batch, shuffle, 3, drop_last, rank, ranks)
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        found.append(batches)
    return found


@pytest.mark.parametrize("size", [1, 5, 8, 23, 24])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_sample_is_drawn(size: int, shuffle: bool) -> None:
    (batches,) = draws(size, 4, epoch=2, shuffle=shuffle)
    assert sorted(key for batch in batches for key in batch) == [(i, 2) for i in range(size)]
    assert [len(batch) for batch in batches[:-1]] == [4] * (len(batches) - 1)
    if not shuffle:
        assert [i for batch in batches for i, _ in batch] == list(range(size))


@pytest.mark.parametrize("size", [5, 8, 23])
@pytest.mark.parametrize("drop_last", [False, True])
def test_ranks_share_the_batches_of_one_process(size: int, drop_last: bool) -> None:
    (alone,) = draws(size, 4, drop_last=drop_last)
    shares = draws(size, 4, ranks=2, drop_last=drop_last)
    assert len(shares[0]) == len(shares[1]) == len(alone)
    for batch, *parts in zip(alone, *shares, strict=True):
        assert len(parts[0]) == len(parts[1])
        together = parts[0] + parts[1]
        assert set(together) >= set(batch)
        assert len(together) - len(batch) == len(batch) % 2
    # What fills the last batch is no new sample.
    assert {key for share in shares for batch in share for key in batch} == {
        key for batch in alone for key in batch
    }


def test_drop_last_leaves_whole_batches_but_never_none() -> None:
    assert [len(batch) for batch in draws(23, 4, drop_last=True)[0]] == [4] * 5
    assert [len(batch) for batch in draws(3, 4, drop_last=True)[0]] == [3]


def test_order_follows_from_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = GlobalBatchSampler(50, 10, True, seed)
        sampler.set_epoch(epoch)
        return [i for batch in sampler for i, _ in batch]

    orders = [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(o) for o in orders}) == 4
    torch.manual_seed(9)
    assert order(1, 1) == orders[3]


def test_skipped_batches_are_passed_over_once() -> None:
    sampler = GlobalBatchSampler(23, 4, True)
    whole = list(sampler)
    sampler.skip = 4
    assert list(sampler) == whole[4:]
    assert len(sampler) == 6
    assert list(sampler) == whole


LENGTHS = [(7 * i) % 101 for i in range(1003)]  # 1003 rows of 101 lengths, scattered


def lengthwise(rank: int = 0, ranks: int = 1, epoch: int = 0, drop: bool = True) -> Keys:
    sampler = GlobalBatchSampler(1003, 4, True, 3, drop, rank, ranks, LENGTHS)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("drop", [False, True])
def test_batches_of_like_length_hold_the_same_rows(drop: bool) -> None:
    (plain,) = draws(1003, 4, drop_last=drop)
    grouped = lengthwise(drop=drop)
    assert {key for b in grouped for key in b} == {key for b in plain for key in b}
    assert [len(batch) for batch in grouped] == [4] * 250 + [3] * (not drop)

    def spread(batches: Keys) -> float:
        spans = [max(LENGTHS[i] for i, _ in b) - min(LENGTHS[i] for i, _ in b) for b in batches]
        return sum(spans) / len(spans)

    # Of 200 rows between 0 and 100 that are sorted, four in a row span about 100 * 3 / 200.
    assert spread(plain) > 50
    assert spread(grouped) < 3
    # Neither the short ones first nor a window after the other: batches come in a random order.
    means = torch.tensor([sum(LENGTHS[i] for i, _ in batch) / len(batch) for batch in grouped])
    order = torch.arange(len(means)).float()
    assert torch.corrcoef(torch.stack([means, order]))[0, 1].abs() < 0.2


def test_batches_of_like_length_are_global_and_can_be_resumed() -> None:
    whole = lengthwise(epoch=1)
    halves = [lengthwise(rank, 2, epoch=1) for rank in range(2)]
    for batch, *parts in zip(whole, *halves, strict=True):
        assert sorted(parts[0] + parts[1]) == sorted(batch)
    assert lengthwise(epoch=1) == whole != [[(i, 1) for i, _ in b] for b in lengthwise(epoch=0)]
    sampler = GlobalBatchSampler(1003, 4, True, 3, True, lengths=LENGTHS)
    sampler.set_epoch(1)
    sampler.skip = 100
    assert list(sampler) == whole[100:]


def test_rows_of_like_length_are_repeated_where_ranks_need_them() -> None:
    shares = [lengthwise(rank, 2, drop=False) for rank in range(2)]
    assert [len(share[-1]) for share in shares] == [2, 2]
    assert {i for share in shares for batch in share for i, _ in batch} == set(range(1003))


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(InputError, match=r"batch_size=5 cannot be divided among 2.*multiple of 2"):
        GlobalBatchSampler(10, 5, True, rank=0, ranks=2)
    with pytest.raises(
        InputError, match=r"5 training samples are fewer than batch_size=8 .* at most 4"
    ):
        GlobalBatchSampler(5, 8, True, drop_last=True, rank=0, ranks=2)
    with pytest.raises(InputError, match="batch_size=0"):
        GlobalBatchSampler(10, 0, True)


def test_rows_of_one_process_are_sorted_and_freed_of_repeats() -> None:
    assert world() == (0, 1)
    rows = [("b", 1), ("a", 2), ("b", 1)]
    assert gather_rows(rows, lambda row: row[0]) == [("a", 2), ("b", 1)]
    assert gather_rows([], lambda row: row) == []


def _gather(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    assert world() == (rank, 2)
    sampler = GlobalBatchSampler(5, 4, shuffle=False)
    rows = [(i, f"row {i}") for batch in sampler for i, _ in batch]
    rows = rows[:-1] if rank else rows  # uneven, and the repeat is rank one's
    found = gather_rows(rows, lambda row: row[0])
    nothing = gather_rows(rows if rank else [], lambda row: row[0])
    own = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).mul(10**rank).T.requires_grad_()
    gathered = all_gather(own)
    (gathered * (torch.arange(8).view(4, 2) + rank)).sum().backward()  # type: ignore[no-untyped-call]
    torch.save((rows, found, nothing, gathered, own.grad), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Rows of each of two processes, its own and gathered."""
    folder = tmp_path_factory.mktemp("shares")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Forked, since a spawned process would take seconds to import torch again.
    arguments = (port, str(folder))
    start_processes(_gather, arguments, 2, start_method="fork")  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_uneven_rows_of_two_processes_come_together(shares: list[Any]) -> None:
    assert [len(rows) for rows, *_ in shares] == [3, 2]
    for _, found, nothing, *_ in shares:
        assert found == [(i, f"row {i}") for i in range(5)]
        assert nothing == shares[1][0]


def test_gradients_of_gathered_rows_go_back_to_their_rank(shares: list[Any]) -> None:
    rows = torch.arange(3.0, requires_grad=True)
    assert all_gather(rows) is rows
    expected = torch.tensor([[1.0, 3.0], [2.0, 4.0], [10.0, 30.0], [20.0, 40.0]])
    # One rank weighs row i, column j by 2 i + j, the other by one more.
    weights = torch.arange(8).view(4, 2).mul(2) + 1.0
    for rank, (*_, gathered, grad) in enumerate(shares):
        assert torch.equal(gathered, expected)
        assert torch.equal(grad, weights[2 * rank : 2 * rank + 2])
