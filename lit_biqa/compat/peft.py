"""What is taken from the inside of peft: LoRA's updates beside layers, told apart and left out."""

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
    """Put float32 updates beside layers, in place.

    Args:
        model: of transformers.
        names: of the layers.
        rank: of the updates.
        alpha: their scale, divided by the rank.
    """
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(names), lora_dropout=0.0)
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()


def updated_weight(linear: Any) -> Tensor:
    """Weight of a layer that has updates, with those that take part in its products."""
    weight: Tensor = linear.base_layer.weight
    if linear.disable_adapters:
        return weight
    updates = [linear.get_delta_weight(name).float() for name in linear.active_adapters]
    return torch.stack([weight.float(), *updates]).sum(0).to(weight.dtype)


def adapters_off(model: nn.Module) -> AbstractContextManager[None]:
    """A context in which LoRA's updates are left out: the model as it was before training.

    It does nothing for a model without them.
    """
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    return _Off(layers) if layers else nullcontext()


class _Off(AbstractContextManager[None]):
    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers

    def __enter__(self) -> None:
        # The switch that forward reads; `enable_adapters` would thaw and freeze weights too.
        for layer in self.layers:
            layer._disable_adapters = True

    def __exit__(self, *_: object) -> None:
        for layer in self.layers:
            layer._disable_adapters = False
