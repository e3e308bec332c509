"""Models whose weights can be sharded over ranks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule

from lit_biqa.backbones.block_sharding import shard_blocks
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.backbones.unread import Unread
from lit_biqa.compat.versions import check
from lit_biqa.types import InputError


class Sharded(nn.Module):
    """A model that FSDP2 can shard block by block, and gather for a rollout.

    Args:
        tuning: trained parts, and how they are trained.

    Attributes:
        model: model of transformers, once loaded.
        together: process group that shares the weights; ``None`` without sharding.
        unread: weights that stay in their files until `shard`.
        reshard_after_forward: see `shard_blocks`.
    """

    model: Any

    def __init__(self, tuning: Tuning) -> None:
        super().__init__()
        # Settings and library versions are checked before weights are read.
        check("transformers")
        if tuning.how != "full":
            check("peft")
        self.tuning = tuning
        self.together: dist.ProcessGroup | None = None
        self.unread = Unread()
        self.reshard_after_forward = True

    def blocks(self) -> list[nn.Module]:
        """Repeated parts of decoder and vision, each of which is sharded separately."""
        from lit_biqa.compat.transformers import GradientCheckpointingLayer

        return [m for m in self.model.modules() if isinstance(m, GradientCheckpointingLayer)]

    def replicated(self) -> list[nn.Module]:
        """Frozen modules that every rank keeps whole, so that each may call them as it needs."""
        return []

    def shard(
        self,
        mesh: DeviceMesh,
        gathered: torch.dtype | None = None,
        reshard_after_forward: bool = True,
    ) -> None:
        """Shard the parameters over a device mesh with FSDP2, block by block.

        Weights that are unread so far are read now: by each rank its own rows.

        Args:
            mesh: device mesh of one dimension.
            gathered: see `shard_blocks`; narrower than the weights only under autocast to it.
            reshard_after_forward: see `shard_blocks`.

        Raises:
            InputError: for weights in 4 bits, which cannot be sharded.
        """
        if self.tuning.how == "qlora":
            raise InputError(
                "tuning.how=qlora keeps weights in 4 bits, which FSDP2 cannot shard: train with "
                "the strategy ddp_find_unused_parameters_true, or set tuning.how=lora"
            )
        words = self.model.get_input_embeddings()
        # The decoder adds to embeddings, in their precision: that in which weights are kept.
        words.register_forward_hook(partial(_as_kept, words.weight.dtype))
        with self.unread.sharding(self, mesh):
            pieces = self.blocks(), self.replicated()
            shard_blocks(self, *pieces, mesh, gathered, reshard_after_forward)
        self.together, self.reshard_after_forward = mesh.get_group(), reshard_after_forward

    @contextmanager
    def unsharded(self) -> Iterator[None]:
        """Context in which the weights of all blocks are gathered once, for a rollout.

        Inside it ranks need not run in step. It does nothing without sharding, or inside itself.
        """
        with self.keep_whole():
            for module in self._sharded_modules():
                module.unshard()
            together, self.together = self.together, None
            try:
                yield
            finally:
                self.together = together

    @contextmanager
    def keep_whole(self) -> Iterator[None]:
        """Context in which weights stay whole from their first use on, for several passes.

        Ranks run in step inside it. It does nothing without sharding, or inside `unsharded`.
        """
        if self.together is None:
            yield
            return
        root: object = self
        for module in self._sharded_modules():
            module.set_reshard_after_forward(False, recurse=False)
            module.set_reshard_after_backward(False, recurse=False)
        try:
            yield
        finally:
            for module in self._sharded_modules():
                again = self.reshard_after_forward and module is not root
                module.set_reshard_after_forward(again, recurse=False)
                module.set_reshard_after_backward(True, recurse=False)
                module.reshard()

    def casting_anew(self) -> AbstractContextManager[object]:
        """Context in which autocast keeps no cast of a sharded weight for a later pass.

        FSDP2 reduces the gradients of a block at a node of autograd that each pass makes. The cast
        of an earlier pass or rollout is an older node, which autograd reaches after that one: its
        gradient would come too late, and ranks that cast anew would reduce more than others.
        """
        root: nn.Module = self
        if not isinstance(root, FSDPModule):
            return nullcontext()
        device = next(self.parameters()).device.type
        enabled = torch.is_autocast_enabled(device)
        return torch.autocast(device, enabled=enabled, cache_enabled=False)

    def _sharded_modules(self) -> list[FSDPModule]:
        return [module for module in self.modules() if isinstance(module, FSDPModule)]

    def trained(self) -> list[nn.Parameter]:
        """Trained parameters, which get the gradients: the shards if weights are sharded.

        It is called outside ``model(work, ...)``, in which parameters are whole.
        """
        for module in self._sharded_modules():
            module.reshard()  # the root, at least, stays whole after a forward pass
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def anyone(self, sees: bool) -> bool:
        """True if any of the ranks that step together has an image."""
        if self.together is None:
            return sees
        flag = torch.tensor(int(sees), device=next(self.parameters()).device)
        dist.all_reduce(flag, dist.ReduceOp.MAX, self.together)
        return bool(flag)


def _as_kept(dtype: torch.dtype, module: nn.Module, inputs: Any, embedded: Tensor) -> Tensor:
    return embedded.to(dtype)
