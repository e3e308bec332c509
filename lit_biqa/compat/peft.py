"""Internals of peft: LoRA updates added to layers, summed into weights, and switched off."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from lit_biqa.compat.versions import check

check("peft")


def add_lora(model: nn.Module, names: Sequence[str], rank: int, alpha: float) -> None:
    """Add float32 LoRA updates to layers, in place.

    Args:
        model: a transformers model.
        names: names of the layers.
        rank: rank of the updates.
        alpha: their scale; the updates are multiplied by ``alpha / rank``.
    """
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(names), lora_dropout=0.0)
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()


def updated_weight(linear: Any) -> Tensor:
    """Weight of a LoRA layer with its active updates added, in the dtype of the weight."""
    weight: Tensor = linear.base_layer.weight
    if linear.disable_adapters:
        return weight
    updates = [linear.get_delta_weight(name).float() for name in linear.active_adapters]
    return torch.stack([weight.float(), *updates]).sum(0).to(weight.dtype)


def adapters_off(model: nn.Module) -> AbstractContextManager[None]:
    """Context in which LoRA updates are switched off: the model as it was before training.

    Does nothing for a model without LoRA.
    """
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    return _Off(layers) if layers else nullcontext()


class _Off(AbstractContextManager[None]):
    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers

    def __enter__(self) -> None:
        # The flag that forward reads; `enable_adapters` would also change `requires_grad`.
        for layer in self.layers:
            layer._disable_adapters = True

    def __exit__(self, *_: object) -> None:
        for layer in self.layers:
            layer._disable_adapters = False
