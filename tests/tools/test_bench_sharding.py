"""The benchmark of sharded training: what two processes exchange, against a count by hand."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.distributed as dist
from bench_path import imported
from torch import nn
from two_ranks import run_two_ranks


@pytest.fixture
def sharding(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from imported("bench_sharding", monkeypatch)


def collectives(rank: int, port: int, tools: str) -> None:
    """A gather of 2 x 6 float32, a gather of 2 x 6 bfloat16, a reduction of 12 float32."""
    import sys

    sys.path.insert(0, tools)
    from bench_meters import Exchanged

    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    with (counts := Exchanged()):
        for dtype in (torch.float32, torch.bfloat16):
            dist.all_gather_into_tensor(torch.empty(12, dtype=dtype), torch.ones(6, dtype=dtype))
        dist.reduce_scatter_tensor(torch.empty(6), torch.ones(12))
    dist.all_gather_into_tensor(torch.empty(12), torch.ones(6))  # outside: not counted
    assert (counts.gathered, counts.reduced, counts.gathers) == (12 * 4 + 12 * 2, 12 * 4, 2)
    dist.destroy_process_group()


def test_bytes_are_those_of_the_collectives() -> None:
    from bench_path import TOOLS

    run_two_ranks(collectives, str(TOOLS))


def test_a_small_run_measures_everything(sharding: ModuleType, tmp_path: Path) -> None:
    """FSDP2 gathers a block for each of forward and backward, the rest once, and reduces once."""
    file = tmp_path / "sharding.csv"
    assert importlib.import_module("bench").main(["sharding", "--small", "--csv", str(file)]) == 0
    with file.open(newline="", encoding="utf-8") as lines:
        found = {line["what"]: float(line["figure"]) for line in csv.DictReader(lines)}
    assert len(found) == 36
    assert all(value > 0 for value in found.values())
    words = sharding.made_up_words(tmp_path, 2000)
    model = sharding.SMALL.model(words, sharding.Tuning())
    model.load()
    total = size(model)
    decoder, blocks = size(model.decoder.layers), sum(map(size, model.blocks()))
    assert found["SFT, full, 32-true: gathered"] == pytest.approx(
        4 * (1 + blocks / total), rel=0.01
    )
    assert found["SFT, full, 32-true: reduced"] == pytest.approx(4, rel=0.01)
    for case in ("SFT, full", "SFT, lora"):  # bfloat16 of float32
        halved = found[f"{case}, 32-true: gathered"] / 2
        assert found[f"{case}, bf16-mixed: gathered"] == pytest.approx(halved, rel=0.01)
    whole = "SFT, full, bf16-mixed, whole until the backward pass"
    assert found[f"{whole}: gathered"] == pytest.approx(2, rel=0.01)
    assert found[f"{whole}: reduced"] == pytest.approx(4, rel=0.01)
    # Once each: rollout, reference, loss of the image's pass, that of the text's pass but for the
    # blocks of the tower, and backward, where the decoder's layers serve two passes.
    gathers = 5 + (2 * decoder - blocks) / total
    assert found["GRPO, full, 32-true: gathered"] == pytest.approx(4 * gathers, rel=0.01)


def size(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
