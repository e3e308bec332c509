"""Two processes, one of which has no image, say and learn what one process does."""

from __future__ import annotations

import math
import multiprocessing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from talkers import FAMILIES, chats_for, talker
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from lit_biqa.backbones.tuning import Tuning
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.rollout.engine import Sampling, generate
from lit_biqa.rollout.log_probs import accumulated_loss, completion_log_probs

LORA = Tuning(how="lora", rank=4, alpha=4)
CASES = [
    *((family, Tuning(), f"fsdp {way}") for family in (0, 1) for way in ("plain", "accumulated")),
    (0, LORA, "fsdp plain"),
    (1, LORA, "fsdp accumulated"),
    (1, Tuning(), "ddp accumulated"),
]
# Weights gathered in bfloat16, in mixed precision.
HALF_CASES = [(family, tuning) for family in (0, 1, 2) for tuning in (Tuning(), LORA)]
SAMPLING = Sampling(budget=6)
CHATS: tuple[int, ...] = (0, 2, 1, 1)  # of `chats_for`; the second rank's are text alone
HALF = torch.autocast("cpu", torch.bfloat16)
SCALES = (1.0, 2.0)  # of two losses in a row, whose gradients are added

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["lit_biqa.rollout.log_probs", "peft"])


class Loss(nn.Module):
    """A loss on some of the chats; a module, for that is what DDP takes."""

    def __init__(self, model: VisionLanguageModel, accumulated: bool) -> None:
        super().__init__()
        self.model, self.accumulated = model, accumulated

    def forward(self, chosen: slice) -> Tensor:
        chats = chats_for(self.model)
        inputs = self.model.encode([chats[i] for i in CHATS[chosen]])
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(5, 250, (4, 3, 6), generator=generator)[chosen]
        lengths = torch.randint(1, 7, (4, 3, 1), generator=generator)[chosen]
        weight = torch.randn(4, 3, 6, generator=generator)[chosen]
        args = (self.model, inputs, ids, torch.arange(6) < lengths)
        if not self.accumulated:
            return (completion_log_probs(*args) * weight).sum()
        return accumulated_loss(*args, partial(_weighted, weight=weight.flatten(0, 1)))


def _weighted(log_probs: Tensor, rows: slice, weight: Tensor) -> Tensor:
    return (log_probs * weight[rows]).sum()


def rollout(model: VisionLanguageModel, chosen: slice) -> list[list[tuple[int, ...]]]:
    chats = chats_for(model)
    seeds = range(len(CHATS))[chosen]
    found = generate(model, [chats[i] for i in CHATS[chosen]], 3, SAMPLING, seeds)
    return [[completion.ids for completion in completions] for completions in found]


def learn(loss: nn.Module, chosen: slice) -> dict[str, Tensor]:
    for scale in SCALES:
        torch.autograd.backward(scale * loss(chosen))
    return {
        name.removeprefix("module."): _whole(p.grad)
        for name, p in loss.named_parameters()
        if p.grad is not None
    }


def _whole(gradient: Any) -> Tensor:
    whole: Tensor = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
    return whole


def _rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    chosen = slice(2 * rank, 2 * rank + 2)
    for number, (family, tuning, way) in enumerate(CASES):
        model = talker(FAMILIES[family], tuning)
        sharded = way.startswith("fsdp")
        if sharded:
            model.shard(init_device_mesh("cpu", (2,)))
        loss: nn.Module = Loss(model, accumulated=way.endswith("accumulated"))
        said = rollout(model, chosen)
        learned = learn(loss if sharded else DistributedDataParallel(loss), chosen)
        torch.save([said, learned], folder / f"{number}-{rank}.pt")
    for number, (family, tuning) in enumerate(HALF_CASES):
        model = talker(FAMILIES[family], tuning)
        model.shard(init_device_mesh("cpu", (2,)), torch.bfloat16)
        with HALF:
            said = rollout(model, chosen)
            learned = learn(Loss(model, accumulated=True), chosen)
        torch.save([said, learned], folder / f"half-{number}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    ranks = [_context.Process(target=_rank, args=(rank, folder)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    codes = [process.exitcode for process in ranks]
    for process in ranks:
        process.kill()
    assert codes == [0, 0]
    return folder


@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=lambda n: f"{CASES[n][1].how}-{CASES[n][2]}"
)
def test_two_ranks_equal_one(folder: Path, number: int) -> None:
    family, tuning, way = CASES[number]
    model = talker(FAMILIES[family], tuning)
    everything = slice(0, len(CHATS))
    ranks = [torch.load(folder / f"{number}-{rank}.pt", weights_only=True) for rank in range(2)]
    assert ranks[0][0] + ranks[1][0] == rollout(model, everything)
    expected = learn(Loss(model, accumulated=False), everything)
    for _, learned in ranks:
        assert learned.keys() == expected.keys()
        largest = max(gradient.norm() for gradient in expected.values()) / 2
        for name, gradient in expected.items():
            mean = gradient / 2
            allowed = 1e-5 * max(mean.norm(), 1e-2 * largest)
            assert (learned[name] - mean).norm() <= allowed, (way, name)


@pytest.mark.parametrize("number", range(len(HALF_CASES)))
def test_weights_gathered_in_bfloat16_round_as_products_do(folder: Path, number: int) -> None:
    """Of the same tokens, two ranks learn what one does in mixed precision, up to its rounding."""
    family, tuning = HALF_CASES[number]
    loss, everything = Loss(talker(FAMILIES[family], tuning), accumulated=True), slice(0, 4)
    exact = learn(loss, everything)
    loss.zero_grad()
    with HALF:
        expected = learn(loss, everything)
    for rank in range(2):
        said, found = torch.load(folder / f"half-{number}-{rank}.pt", weights_only=True)
        assert all(len(ids) <= SAMPLING.budget for group in said for ids in group)
        assert found.keys() == exact.keys()
        doubled = {name: 2 * gradient for name, gradient in found.items()}
        rounding = _apart(expected, exact)
        assert 0 < rounding < 0.2
        assert _apart(doubled, exact) < 1.5 * rounding


def _apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Distance of gradients, relative to their norm."""
    total = sum(float(gradient.square().sum()) for gradient in other.values())
    apart = sum(float((one[name] - gradient).square().sum()) for name, gradient in other.items())
    return math.sqrt(apart / total)
