"""Optimizers before there is anything to optimise: what their settings may be on going on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch.optim import Optimizer

from lit_biqa.types import InputError

# What a schedule adds to an optimizer's settings, and what they are about.
_NOT_SETTINGS = {"params", "param_names", "initial_lr"}


def made_on_trial(make: OptimizerCallable) -> Optimizer:
    """The optimizer of one weight, to see before models are loaded what its settings come to.

    Raises:
        InputError: if it refuses its settings.
    """
    try:
        # Of two dimensions: some optimizers take no vectors.
        return make([torch.nn.Parameter(torch.zeros(1, 1))])
    except (ValueError, TypeError) as error:
        raise InputError(f"model.optimizer refuses its settings: {error}") from error


def refuse_changed(path: Path, content: Mapping[str, Any], make: OptimizerCallable) -> None:
    """Refuse to go on with another optimizer than that of a checkpoint, or other settings of it.

    Its settings lie in its state, which is restored: those of the new command would be ignored.

    Args:
        path: of the checkpoint.
        content: what it holds.
        make: the optimizer of the command.

    Raises:
        InputError: naming the first setting that differs.
    """
    remedy = (
        "A fit that goes on keeps its optimizer: leave model.optimizer as in the config.yaml of "
        "that run, or begin a new run in another folder."
    )
    for group in (
        group for state in content["optimizer_states"] for group in state["param_groups"]
    ):
        optimizer = made_on_trial(make)
        before = _settings(optimizer.param_groups[0])
        after = _settings(_restored(optimizer, group))
        if before.keys() != after.keys():
            kind = type(optimizer).__name__
            raise InputError(f"{path} holds the state of another optimizer than {kind}. {remedy}")
        for name, value in before.items():
            if value != after[name]:
                raise InputError(
                    f"model.optimizer has {name}={value}, and {path} goes on with {after[name]}. "
                    f"{remedy}"
                )


def _restored(optimizer: Optimizer, group: dict[str, Any]) -> dict[str, Any]:
    """What becomes of an optimizer's settings when it takes those of a checkpoint.

    It adds what it knows and a checkpoint of an older release does not.
    """
    saved = {**group, "params": [0], "lr": group.get("initial_lr", group["lr"])}
    try:
        optimizer.load_state_dict({"state": {}, "param_groups": [saved]})
    except KeyError:  # of another kind
        return {}
    return optimizer.param_groups[0]


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in group.items()
        if name not in _NOT_SETTINGS
    }
