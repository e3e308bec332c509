"""The reference model: the policy as it was before training."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch.distributed.device_mesh import DeviceMesh

from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.types import InputError


class Reference:
    """Gives the model that the penalty of the policy loss compares with.

    With full tuning it is a frozen copy of the weights as they were read; with LoRA it is the model
    itself, whose updates are left out. The copy is no module of the method, so it is in none of its
    checkpoints and is not trained.

    Args:
        copied: whether a copy is needed: a penalty, and full tuning.

    Attributes:
        copy: there once the weights are read.
    """

    def __init__(self, copied: bool) -> None:
        self.copied = copied
        self.copy: VisionLanguageModel | None = None

    def keep(self, model: VisionLanguageModel) -> None:
        """Copy a model whose weights have just been read, where a copy is needed."""
        if self.copied:
            self.copy = deepcopy(model).requires_grad_(False)

    def shard(self, mesh: DeviceMesh) -> None:
        """Shard the copy as the model is."""
        if self.copy is not None:
            self.copy.shard(mesh)

    def move_to(self, device: torch.device) -> None:
        """Bring the copy to where the model is.

        Raises:
            InputError: if there is none and there must be one.
        """
        if self.copied and self.copy is None:
            raise InputError(
                "GRPO copies the weights as it reads them, for the reference that beta weighs: "
                "hand over a backbone that is not loaded, or set model.policy.beta to 0"
            )
        if self.copy is not None:
            self.copy.to(device)

    def of(self, model: VisionLanguageModel) -> VisionLanguageModel:
        """The model to run: the copy, or the model itself."""
        return model if self.copy is None else self.copy
