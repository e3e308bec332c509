"""Checks of optimizer settings before weights are loaded, and on resumption."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch.optim import Optimizer

from lit_biqa.types import InputError

# Entries of parameter groups that are no settings.
_NOT_SETTINGS = {"params", "param_names", "initial_lr"}


def made_on_trial(make: OptimizerCallable) -> Optimizer:
    """Optimizer of one dummy weight, to check its settings before models are loaded.

    Raises:
        InputError: if the optimizer refuses its settings.
    """
    try:
        # Two dimensions, because some optimizers accept no vectors.
        return make([torch.nn.Parameter(torch.zeros(1, 1))])
    except (ValueError, TypeError) as error:
        raise InputError(f"model.optimizer refuses its settings: {error}") from error


def refuse_changed(path: Path, content: Mapping[str, Any], make: OptimizerCallable) -> None:
    """Refuse to resume with another optimizer, or with other settings, than the checkpoint's.

    The saved state includes the settings: those of the new command would be ignored.

    Args:
        path: the checkpoint file.
        content: its content.
        make: factory of the new optimizer.

    Raises:
        InputError: names the first setting that differs.
    """
    remedy = (
        "A resumed fit keeps its optimizer: leave model.optimizer as in the config.yaml of "
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
                    f"model.optimizer has {name}={value}, but {path} was trained with "
                    f"{after[name]}. {remedy}"
                )


def _restored(optimizer: Optimizer, group: dict[str, Any]) -> dict[str, Any]:
    """Settings of an optimizer after it loads those of a checkpoint.

    It adds settings that a checkpoint of an older release does not have.
    """
    saved = {**group, "params": [0], "lr": group.get("initial_lr", group["lr"])}
    try:
        optimizer.load_state_dict({"state": {}, "param_groups": [saved]})
    except KeyError:  # an optimizer of another class
        return {}
    return optimizer.param_groups[0]


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in group.items()
        if name not in _NOT_SETTINGS
    }
