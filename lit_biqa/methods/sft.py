"""Supervised fine-tuning on target answers, in one stage or two."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_biqa import distributed
from lit_biqa.backbones.inputs import Inputs
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.methods.base import Decay
from lit_biqa.methods.chat import ChatMethod
from lit_biqa.methods.finite import OnNonfinite
from lit_biqa.methods.soft_levels import SoftLevels
from lit_biqa.objectives.likelihood import smoothed_likelihood
from lit_biqa.readouts.base import Readout
from lit_biqa.tasks import Describe, Example, Task, asked
from lit_biqa.types import Batch, Chat, InputError, Prediction, Sample

log = logging.getLogger(__name__)

_LONGEST = 32  # number of texts whose length is checked before training


class SFT(ChatMethod):
    """Supervised fine-tuning (*Building Reasonable Inference*, equation 2).

    The loss is the label-smoothed likelihood of answers, a mean over the answer tokens of the whole
    batch on all ranks. Two-stage tuning is two runs: ``Describe``, and ``Conclude``, whose
    ``pretrained`` is the ``weights/`` of the first run.

    Args:
        backbone: the vision-language model.
        task: chat and target answer of each row.
        optimizer: factory of the optimizer.
        readouts: readouts of a test; the first also in validation.
        smoothing: ε on [0, 1]; the paper gives none.
        soft_levels: DeQA-Score's soft labels instead of one level word; for tasks whose answer
            names a level.
        warmup: share of the steps over which the learning rate rises.
        decay: shape of its decay afterwards.
        on_nonfinite: ``stop`` the fit at a step that is not finite, or ``skip`` it.
    """

    def __init__(
        self,
        backbone: VisionLanguageModel,
        task: Task,
        optimizer: OptimizerCallable,
        readouts: Sequence[Readout] = (),
        smoothing: float = 0.1,
        soft_levels: SoftLevels | None = None,
        warmup: float = 0.03,
        decay: Decay = "cosine",
        on_nonfinite: OnNonfinite = "stop",
    ) -> None:
        super().__init__(backbone, optimizer, readouts, warmup, decay, on_nonfinite)
        self.task, self.smoothing, self.soft_levels = task, smoothing, soft_levels
        self.sees_image = task.sees_image

    def setup(self, stage: str) -> None:
        """Keep the samples that suit the task, and check everything that needs no weights.

        Raises:
            InputError: if no sample suits the task.
        """
        super().setup(stage)
        if self.soft_levels is not None:
            self.soft_levels.words.tokens(self.backbone)
        if stage != "fit":
            return
        for part in ("train", "val"):
            samples = self.data.samples[part]
            suited = [sample for sample in samples if self.task.suits(sample)]
            left = len(samples) - len(suited)
            if left:
                name = type(self.task).__name__
                log.warning("%d of %d %s samples do not suit %s", left, len(samples), part, name)
            if samples and not suited:
                raise InputError(
                    f"none of {len(samples)} {part} samples suits {type(self.task).__name__}: it "
                    "needs texts (data.texts.files, data.sets.conversations), a known quality, "
                    "or both"
                )
            self.data.samples[part] = suited
            self._check_lengths(suited)

    @property
    def leaves_unused(self) -> bool:
        """True if some rows have no image: they use neither the tower nor its visual experts."""
        return not all(map(self.task.shows, self.data.samples["train"]))

    def question(self, batch: Batch, row: int) -> Chat:
        """See `ChatMethod`; the question of tasks that learn to describe."""
        if not isinstance(self.task, Describe):
            raise InputError(
                f"{type(self.task).__name__} does not learn to describe images: name a run of "
                "Describe, DescribeAndConclude or GRPO"
            )
        return asked(batch, row, self.task.question)

    def _check_lengths(self, samples: Sequence[Sample]) -> None:
        """Refuse texts that do not fit the context, before training."""
        texts = sorted(((len(t), t, s.name) for s in samples for t in s.texts), reverse=True)
        # The number of characters orders the texts; only tokens give their length.
        for _, text, name in texts[:_LONGEST]:
            if (tokens := len(self.backbone.tokenize(text))) >= self.backbone.context:
                raise InputError(
                    f"the text about {name} has {tokens} tokens, and the context has "
                    f"{self.backbone.context} for text, question and image: shorten the "
                    "text or leave it out, or raise the backbone's context"
                )

    def compute_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Equation 2, or DeQA-Score's losses."""
        examples = self.task.examples(batch, self.global_step)
        inputs = self.encode(examples)
        if self.soft_levels is not None:
            return self.soft_levels(self.backbone, inputs, examples, batch)
        total: Tensor = self.backbone(likelihood, inputs, self.smoothing)
        return total * share(inputs), {}

    def encode(self, examples: Sequence[Example]) -> Inputs:
        """Examples as encoded rows, on the device."""
        chats, answers = [e.chat for e in examples], [e.answer for e in examples]
        return self.backbone.encode(chats, answers).to(self.device)

    def validation_step(  # type: ignore[override]
        self, batch: Batch, batch_idx: int
    ) -> list[Prediction]:
        """The loss without smoothing, logged as ``val/loss``; rows of the first readout."""
        inputs = self.encode(self.task.examples(batch))
        total: Tensor = self.backbone(likelihood, inputs, 0.0)
        count = int((inputs.labels[:, 1:] >= 0).sum()) if inputs.labels is not None else 0
        self.log("val/loss", total / count, batch_size=count, sync_dist=True, prog_bar=True)
        return super().validation_step(batch, batch_idx)


def likelihood(model: VisionLanguageModel, inputs: Inputs, smoothing: float) -> Tensor:
    """Smoothed likelihood of the answers in a batch, summed over their tokens."""
    assert inputs.labels is not None
    hidden = model.hidden(inputs).last_hidden_state
    return smoothed_likelihood(
        hidden[:, :-1], model.head.weight, inputs.labels[:, 1:], smoothing, reduction="sum"
    )


def share(inputs: Inputs) -> Tensor:
    """See `lit_biqa.distributed.share`; counts answer tokens."""
    assert inputs.labels is not None
    return distributed.share((inputs.labels[:, 1:] >= 0).sum())
