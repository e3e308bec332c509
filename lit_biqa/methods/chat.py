"""Base of methods on vision-language models: loading, readouts, export of weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from PIL import Image
from torch import Tensor

from lit_biqa.backbones.transforms import Evaluate
from lit_biqa.backbones.tuning import counted
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.frozen_features import FrozenNetwork
from lit_biqa.evaluation import tables
from lit_biqa.methods.base import Decay, Method
from lit_biqa.methods.finite import OnNonfinite
from lit_biqa.methods.reading import read_rows, refuse_empty, refuse_repeated
from lit_biqa.readouts.base import Readout
from lit_biqa.types import Batch, Chat, InputError, Prediction


@dataclass(frozen=True)
class Untouched:
    """Training transform without augmentation: a crop would change the quality of an image.

    Attributes:
        transform: transform of evaluation.
    """

    transform: Evaluate

    def __call__(self, image: Image.Image, generator: torch.Generator) -> Tensor:
        """See `Train`."""
        return self.transform(image)


class ChatMethod(Method):
    """Base of methods whose scores come from readouts of a vision-language model.

    Args:
        backbone: the vision-language model.
        optimizer: factory of the optimizer.
        readouts: readouts of a test, one row per image and readout; the first also in validation.
            Empty for stages that only learn to describe.
        warmup: share of the steps over which the learning rate rises.
        decay: shape of its decay afterwards.
        on_nonfinite: ``stop`` the fit at a step that is not finite, or ``skip`` it.
    """

    sees_image: bool = True

    def __init__(
        self,
        backbone: VisionLanguageModel,
        optimizer: OptimizerCallable,
        readouts: Sequence[Readout],
        warmup: float,
        decay: Decay,
        on_nonfinite: OnNonfinite = "stop",
    ) -> None:
        super().__init__(optimizer, warmup, decay, on_nonfinite)
        self.backbone, self.readouts = backbone, list(readouts)
        # Checkpoints of LoRA hold only trained weights; see `on_save_checkpoint`.
        self.strict_loading = not self.low_rank
        refuse_repeated(self.readouts)

    @property
    def data(self) -> BIQADataModule:
        """The DataModule of the run."""
        data: BIQADataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        return data

    @property
    def opens_images(self) -> bool:
        """True if training or any readout reads images."""
        return self.sees_image or any(readout.sees_image for readout in self.readouts)

    def setup(self, stage: str) -> None:
        """Check everything that needs no weights, and set the transforms.

        Raises:
            InputError: for a readout that cannot work with the backbone, or for a test (also one
                after a fit) without readouts.
        """
        self.backbone.root = self.data.root
        self.backbone.prepare()
        for readout in self.readouts:
            readout.check(self.backbone)
        refuse_empty(self.readouts)
        if (stage == "test" or self.data.samples.get("test")) and not self.readouts:
            raise InputError(
                "no readout gives a score: name one in model.readouts, or leave data.test empty"
            )
        transform = self.backbone.image_transform if self.opens_images else None
        # If only readouts see images, training images are not even opened.
        train = Untouched(transform) if transform and self.sees_image else None
        self.data.use_transforms(train, transform)

    def load(self) -> None:
        """Read the weights, or leave them in their files until they are sharded."""
        with nullcontext() if self.device_mesh is None else self.backbone.unread.taking():
            self.backbone.load()
        # transformers returns models in evaluation mode, and Lightning keeps the mode.
        self.backbone.train()

    def frozen_network(self) -> FrozenNetwork | None:
        """The backbone's image network if it is frozen and images are read."""
        return self.backbone.frozen_network() if self.opens_images else None

    def shard(self) -> None:
        """Shard the backbone."""
        assert self.device_mesh is not None
        mesh = self.device_mesh["data_parallel"]
        self.backbone.shard(mesh, self.gathered, self.reshard_after_forward)

    @property
    def gathered(self) -> torch.dtype | None:
        """Precision in which ranks gather sharded weights: that of products if it is bfloat16."""
        return torch.bfloat16 if self.trainer.precision == "bf16-mixed" else None

    def on_fit_start(self) -> None:
        """Print the number of trained parameters and the memory of training."""
        self.print(tables.pairs("Model", counted(self.backbone)))

    def question(self, batch: Batch, row: int) -> Chat:
        """Prompt for a text about the image of a row, without its MOS.

        Raises:
            InputError: if the method does not learn to write about images.
        """
        raise InputError(f"{type(self).__name__} has no prompt for a text about an image")

    def validation_step(  # type: ignore[override]
        self, batch: Batch, batch_idx: int
    ) -> list[Prediction]:
        """Rows of the first readout."""
        return read_rows(self.backbone, self.readouts[:1], batch)

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Prediction]:
        """Rows of every readout."""
        return read_rows(self.backbone, self.readouts, batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """With LoRA, save only its updates: the other weights are as they were read."""
        super().on_save_checkpoint(checkpoint)
        if self.low_rank:
            trained = self._trained()
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {k: v for k, v in state.items() if k in trained}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another tuning.

        Raises:
            InputError: if the checkpoint does not hold exactly the trained weights.
        """
        super().on_load_checkpoint(checkpoint)
        if self.low_rank and set(checkpoint["state_dict"]) != self._trained():
            raise InputError(
                "the checkpoint holds other weights than the LoRA updates of this tuning: use the "
                "config.yaml beside its checkpoints folder"
            )

    @property
    def low_rank(self) -> bool:
        """True if only updates of frozen weights are trained."""
        return self.backbone.tuning.how != "full"

    def _trained(self) -> set[str]:
        """Names of trained weights, and of buffers that a fit sets."""
        buffers = {name for name, _ in self.named_buffers()} & self.state_dict().keys()
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return trained | buffers

    def ship(self, folder: Path, state: dict[str, Tensor]) -> None:
        """Write ``weights/``, a folder that a backbone's ``pretrained`` takes."""
        prefix = "backbone."
        held = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if self.low_rank:
            held = self.backbone.state() | held
        self.backbone.save(folder / "weights", held)
