"""FSDP2 block by block, with frozen modules that stay whole."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard


def shard_blocks(
    model: nn.Module, blocks: Iterable[nn.Module], replicated: Iterable[nn.Module], mesh: DeviceMesh
) -> None:
    """Shard the parameters of a model over a device mesh, in place.

    Args:
        model: whose parameters outside of the blocks are sharded as one piece.
        blocks: parts of it, each of which is sharded separately.
        replicated: frozen parts of it that every rank keeps whole, so that each may call them as
            it needs; none inside a block.
        mesh: device mesh of one dimension.
    """
    for block in blocks:
        fully_shard(block, mesh=mesh)
    whole = {weight for module in replicated for weight in module.parameters()}
    fully_shard(model, mesh=mesh, ignored_params=whole)
