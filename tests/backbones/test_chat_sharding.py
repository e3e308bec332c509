"""Weights sharded over two processes, of which one may see images and the other none."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from chatters import BACKBONES, Tiny, loaded, mixed
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from two_ranks import run_two_ranks

from lit_biqa.backbones.inputs import Inputs
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.objectives.likelihood import smoothed_likelihood
from lit_biqa.types import Chat, ask

FAMILIES = tuple(BACKBONES.values())
TUNINGS = {
    "full": Tuning(checkpointing=True),
    "lora": Tuning("lora", rank=3),
    "lora beside bfloat16": Tuning("lora", ["bridge"], rank=3, precision="bfloat16"),
}
# Which of `rows` each rank is given.
SHARES = {
    "text and images": ([1, 4], [0, 2]),
    "images and text": ([3], [1]),
    "text and text": ([4], [1]),
    "mixed and text": ([0, 1], [4]),
}
ANSWERS = ["good", "fair, I think", "bad", "excellent", "poor"]


def rows(model: Tiny) -> list[Chat]:
    return [*mixed(model), ask("Describe a noisy image.")]


def encoded(model: Tiny, chosen: list[int]) -> Inputs:
    chats = rows(model)
    return model.encode([chats[i] for i in chosen], [ANSWERS[i] for i in chosen])


def summed(model: Tiny, inputs: Inputs) -> Tensor:
    """Loss over all tokens of the answers, as fine-tuning takes it."""
    assert inputs.labels is not None
    hidden = model.hidden(inputs).last_hidden_state[:, :-1]
    labels = inputs.labels[:, 1:]
    return smoothed_likelihood(hidden, model.head.weight, labels, 0.1, reduction="sum")


def tokens(inputs: Inputs) -> int:
    assert inputs.labels is not None
    return int((inputs.labels[:, 1:] >= 0).sum())


def shares_of(tuning: Tuning) -> list[str]:
    """Shares in which the tuning trains anything."""
    return [share for share in SHARES if share != "text and text" or "language" in tuning.parts]


def stirred(family: Any, tuning: Tuning) -> Tiny:
    model: Tiny = loaded(family, tuning)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.02 * torch.randn(weight.shape, generator=generator))
    return model


def gradients(model: Tiny, shares: list[list[int]], rank: int) -> dict[str, Tensor]:
    """Gradients of one step of the mean loss over the tokens of all ranks."""
    model.zero_grad()
    total = sum(tokens(encoded(model, share)) for share in shares)
    loss = model(summed, encoded(model, shares[rank])) / total
    # FSDP2 takes the mean over the ranks.
    (loss * len(shares)).backward()
    found = {n: w.grad for n, w in model.named_parameters() if w.grad is not None}
    return {n: g.full_tensor() if hasattr(g, "full_tensor") else g for n, g in found.items()}


def rollout(model: Tiny, rank: int) -> list[Tensor]:
    """Weights gathered once; the ranks then see different rows, and not as many."""
    found = []
    with torch.no_grad(), model.unsharded():
        for chosen in ([[0], [1], [2, 4]], [[1]])[rank]:
            found.append(model(lambda m: m.hidden(encoded(m, chosen)).last_hidden_state))  # noqa: B023
    return found


def mixed_precision(family: Any, mesh: DeviceMesh | None, rank: int) -> dict[str, Tensor]:
    """Gradients in mixed precision; of sharded weights, which are gathered in bfloat16."""
    model = stirred(family, TUNINGS["full"])
    shares = list(SHARES["text and images"])
    if mesh is None:
        shares = [shares[0] + shares[1]]
    else:
        model.shard(mesh, torch.bfloat16, reshard_after_forward=False)
    with torch.autocast("cpu", torch.bfloat16):
        return gradients(model, shares, rank)


def process(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    mesh = init_device_mesh("cpu", (2,))
    for family in FAMILIES:
        for name, tuning in TUNINGS.items():
            model = stirred(family, tuning)
            model.shard(mesh, reshard_after_forward=name != "lora")
            steps = {s: gradients(model, list(SHARES[s]), rank) for s in shares_of(tuning)}
            seen = rollout(model, rank)
            steps["after a rollout"] = gradients(model, list(SHARES["text and images"]), rank)
            torch.save((steps, seen), folder / f"{family.__name__}-{name}-{rank}.pt")
        torch.save(
            mixed_precision(family, mesh, rank), folder / f"{family.__name__}-half-{rank}.pt"
        )
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two processes, for every family, tuning and sharding."""
    folder = tmp_path_factory.mktemp("sharded")
    run_two_ranks(process, folder, limit=540)  # eight backbones, three times each
    return folder


@pytest.mark.parametrize("name", TUNINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_two_ranks_find_the_gradients_of_one(family: Any, name: str, folder: Path) -> None:
    alone = stirred(family, TUNINGS[name])
    half = TUNINGS[name].precision == "bfloat16"
    stored = [torch.load(folder / f"{family.__name__}-{name}-{rank}.pt") for rank in range(2)]
    for share in [*shares_of(TUNINGS[name]), "after a rollout"]:
        shares = SHARES.get(share, SHARES["text and images"])
        expected = gradients(alone, [shares[0] + shares[1]], 0)
        assert expected
        for steps, _ in stored:
            assert steps[share].keys() == expected.keys(), share
            for weight, gradient in expected.items():
                found = steps[share][weight].float()
                apart = (found - gradient.float()).norm() / gradient.float().norm().clamp_min(1e-4)
                assert apart < (0.1 if half else 1e-4), (share, weight)
    with torch.no_grad():
        for rank, (_, seen) in enumerate(stored):
            for hidden, other in zip(seen, rollout(alone, rank), strict=True):
                torch.testing.assert_close(hidden, other, atol=0.1 if half else 1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_gathered_in_bfloat16_round_as_products_do(family: Any, folder: Path) -> None:
    first, second = SHARES["text and images"]
    exact = gradients(stirred(family, TUNINGS["full"]), [first + second], 0)
    rounding = apart(mixed_precision(family, None, 0), exact)
    assert 0 < rounding < 0.2
    for rank in range(2):
        found = torch.load(folder / f"{family.__name__}-half-{rank}.pt")
        assert found.keys() == exact.keys()
        assert apart(found, exact) < 1.5 * rounding


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Distance of gradients, relative to their norm."""
    total = sum(float(gradient.square().sum()) for gradient in other.values())
    between = sum(float((one[name] - gradient).square().sum()) for name, gradient in other.items())
    return math.sqrt(between / total)
