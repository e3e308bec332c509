"""Optimizer settings, checked before models are loaded and on resumption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD, Adam, AdamW, NAdam, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR

from lit_biqa.methods.optimizer import made_on_trial, refuse_changed
from lit_biqa.types import InputError

Make = Callable[[Any], Optimizer]


def adam(p: Any) -> Optimizer:
    return Adam(p, lr=0.1, weight_decay=0.01)


def saved(make: Make) -> dict[str, Any]:
    """State that Lightning saves of an optimizer that has stepped under a schedule."""
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = make([weight])
    schedule = LambdaLR(optimizer, lambda step: 1 / (step + 1))
    for _ in range(3):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        schedule.step()
    return {"optimizer_states": [optimizer.state_dict()]}


def test_the_same_optimizer_goes_on_wherever_its_schedule_stands() -> None:
    refuse_changed(Path("x"), saved(adam), adam)
    sgd: Make = lambda p: SGD(p, lr=0.1, momentum=0.9)  # noqa: E731
    refuse_changed(Path("x"), saved(sgd), sgd)


def test_a_checkpoint_of_an_older_release_goes_on() -> None:
    content = saved(adam)
    for name in ("capturable", "differentiable", "fused", "foreach", "maximize"):
        del content["optimizer_states"][0]["param_groups"][0][name]
    refuse_changed(Path("x"), content, adam)


def test_a_fit_without_an_optimizer_goes_on() -> None:
    refuse_changed(Path("x"), {"optimizer_states": []}, adam)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: Adam(p, lr=0.2, weight_decay=0.01), r"has lr=0.2, but x was trained with 0.1\."),
        (lambda p: Adam(p, lr=0.1), r"has weight_decay=0, but x was trained with 0.01\."),
        (lambda p: Adam(p, lr=0.1, betas=(0.8, 0.999), weight_decay=0.01), r"betas=\(0.8, 0.999\)"),
        (lambda p: SGD(p, lr=0.1, momentum=0.9), "another optimizer than SGD"),
        (lambda p: RMSprop(p, lr=0.1), "another optimizer than RMSprop"),
        (lambda p: NAdam(p, lr=0.1), "another optimizer than NAdam"),
    ],
)
def test_what_would_be_ignored_is_refused(make: Make, said: str) -> None:
    with pytest.raises(InputError, match=said):
        refuse_changed(Path("x"), saved(adam), make)


@pytest.mark.parametrize("make", [adam, lambda p: AdamW(p, lr=0.1)])
def test_another_class_is_refused_in_both_directions(make: Make) -> None:
    sgd: Make = lambda p: SGD(p, lr=0.1)  # noqa: E731
    with pytest.raises(InputError, match="another optimizer than SGD"):
        refuse_changed(Path("x"), saved(make), sgd)
    with pytest.raises(InputError, match="another optimizer than Adam"):
        refuse_changed(Path("x"), saved(sgd), make)


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"lr": 0.1, "eps": -1.0}, {"lr": 0.1, "bets": 1}])
def test_settings_that_an_optimizer_refuses_are_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="optimizer refuses its settings: "):
        made_on_trial(lambda p: AdamW(p, **wrong))
