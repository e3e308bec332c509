"""FSDP2 block by block, with frozen modules that stay whole."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.modules.batchnorm import _BatchNorm

# With weights in bfloat16, they refuse float32 input on a CPU, or statistics in float32.
_REFUSING = (nn.LayerNorm, nn.GroupNorm, _BatchNorm)


def shard_blocks(
    model: nn.Module,
    blocks: Iterable[nn.Module],
    replicated: Iterable[nn.Module],
    mesh: DeviceMesh,
    gathered: torch.dtype | None = None,
    reshard_after_forward: bool = True,
) -> None:
    """Shard the parameters of a model over a device mesh, in place.

    Args:
        model: whose parameters outside of the blocks are sharded as one piece.
        blocks: parts of it, each of which is sharded separately.
        replicated: frozen parts of it that every rank keeps whole, so that each may call them as
            it needs; none inside a block.
        mesh: device mesh of one dimension.
        gathered: precision in which ranks gather the weights, which are kept as they are, and
            whose gradients are reduced in float32; ``None`` for that in which they are kept, as
            for pieces with a layer, group or batch norm.
        reshard_after_forward: false keeps a block whole from its forward pass to its backward pass,
            which takes memory and saves a gather.
    """
    blocks, replicated = list(blocks), list(replicated)
    for block in blocks:
        policy = _policy(block.modules(), gathered)
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward)
    apart = {module for part in (*blocks, *replicated) for module in part.modules()}
    outside = (module for module in model.modules() if module not in apart)
    whole = {weight for module in replicated for weight in module.parameters()}
    fully_shard(model, mesh=mesh, mp_policy=_policy(outside, gathered), ignored_params=whole)


def _policy(modules: Iterable[nn.Module], gathered: torch.dtype | None) -> MixedPrecisionPolicy:
    if gathered is None or any(isinstance(module, _REFUSING) for module in modules):
        return MixedPrecisionPolicy(cast_forward_inputs=False)
    return MixedPrecisionPolicy(gathered, torch.float32, cast_forward_inputs=False)
