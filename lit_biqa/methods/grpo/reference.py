"""Reference model: the policy before training."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch.distributed.device_mesh import DeviceMesh

from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.types import InputError


class Reference:
    """Provides the reference model for the KL penalty of the policy loss.

    With full tuning it is a frozen copy of the initial weights; with LoRA it is the model itself
    with its updates switched off. The copy is no module of the method, so that its checkpoints do
    not hold it and it is not trained.

    Args:
        copied: true if a copy is needed: with a penalty and full tuning.

    Attributes:
        copy: the copy; exists once the weights are read.
    """

    def __init__(self, copied: bool) -> None:
        self.copied = copied
        self.copy: VisionLanguageModel | None = None

    def keep(self, model: VisionLanguageModel) -> None:
        """Copy a model whose weights have just been read, if a copy is needed."""
        if self.copied:
            self.copy = deepcopy(model, model.unread.shared()).requires_grad_(False)

    def shard(self, mesh: DeviceMesh, gathered: torch.dtype | None) -> None:
        """Shard the copy like the model; see `Sharded.shard`."""
        if self.copy is not None:
            self.copy.shard(mesh, gathered)

    def move_to(self, device: torch.device) -> None:
        """Move the copy to the device of the model.

        Raises:
            InputError: if a copy is needed and missing.
        """
        if self.copied and self.copy is None:
            raise InputError(
                "GRPO copies the weights when it loads them, as the reference of the KL penalty: "
                "pass a backbone that is not loaded, or set model.policy.beta to 0"
            )
        if self.copy is not None:
            self.copy.to(device)

    def of(self, model: VisionLanguageModel) -> VisionLanguageModel:
        """Reference model to run: the copy, or the model itself."""
        return model if self.copy is None else self.copy
