"""Warning of a fit that does not fit its devices, before its weights load."""

from __future__ import annotations

import logging
from copy import deepcopy

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy

from lit_biqa.compat.lightning import reshards_after_forward
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.methods.chat import ChatMethod
from lit_biqa.planning.phases import peak, phases
from lit_biqa.planning.sizes import sizes_of
from lit_biqa.planning.work import TEXT_TOKENS, work_of
from lit_biqa.types import InputError

log = logging.getLogger(__name__)


def warn_of_memory(
    method: LightningModule, data: BIQADataModule, trainer: Trainer, stated: float | None
) -> None:
    """Warn in one line if the plan of a fit needs more memory than a device has.

    The smallest GPU of this machine counts. A second line says if its GPUs differ. Nothing is said
    where the memory is not known, or the method or the size of the model is not one that can be
    planned.

    Args:
        method: not loaded.
        data: data of the fit.
        trainer: Trainer of the fit.
        stated: GiB of each device; ``None`` for what CUDA says.
    """
    known = _known(trainer)
    memory = known if stated is None else stated * 2**30
    if memory is None or not isinstance(method, ChatMethod):
        return
    try:
        # A copy, because the plan gives the backbone modules without weights.
        sizes = sizes_of(deepcopy(method.backbone))
        work = work_of(
            method,
            data.loader.batch_size,
            str(trainer.precision),
            sizes.image,
            TEXT_TOKENS,
            trainer.num_devices * trainer.num_nodes,
            isinstance(trainer.strategy, ModelParallelStrategy),
            reshard=reshards_after_forward(trainer.strategy),
        )
    except InputError:
        return
    phase, most = peak(phases(sizes, work))
    if most > memory:
        log.warning(
            "the plan of this fit takes %.1f GiB of each device (%s), which has %.1f: see which "
            "settings to change with `lit_biqa plan` and the same arguments",
            *(most / 2**30, phase, memory / 2**30),
        )


def _known(trainer: Trainer) -> float | None:
    """Bytes of the smallest device of this machine, where they are known."""
    if trainer.strategy.root_device.type != "cuda":
        return None
    found = {index: torch.cuda.get_device_properties(index) for index in trainer.device_ids}
    if len({(each.name, each.total_memory) for each in found.values()}) > 1:
        log.warning(
            "the GPUs of this fit differ: %s. They hold equal shares, and all wait for the "
            "slowest; choose equal ones, as in --trainer.devices '[0, 1]'",
            ", ".join(
                f"{index} {each.name} {each.total_memory / 2**30:.1f} GiB"
                for index, each in found.items()
            ),
        )
    return min(float(each.total_memory) for each in found.values())
