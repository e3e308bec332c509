"""Two ways to fit the same model to the same conversations: ours, and transformers' Trainer.

Both read the same images and texts through the same tokenizer and image settings, in batches of
the same size, and train all weights with the same AdamW, label smoothing and gradient clipping,
without activations computed twice. They differ in this:

- the Trainer draws batches at random, pads on the right to the longest row, masks the padding,
  and takes its loss from the logits of all positions;
- ours draws batches of like length, pads on the right without a mask, and takes its loss from
  hidden states, for answer tokens alone and some at a time.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as lightning
import torch
import transformers
from bench_data import TASK, Rows, encoded, keywords
from torch import Tensor

from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.dataset import Item, collate
from lit_biqa.data.feedbacks import ConversationSettings
from lit_biqa.data.settings import LoaderSettings, SetSettings
from lit_biqa.methods.sft import SFT
from lit_biqa.runs.sharded_strategy import ShardedStrategy

SMOOTHING, CLIP = 0.1, 1.0
Span = AbstractContextManager[Any]
Precision = Literal["32-true", "bf16-mixed"]

# Of transformers' Trainer and TRL's: what is trained as ours is, and that nothing is written.
LIKE_OURS: dict[str, Any] = {
    "max_grad_norm": CLIP,
    "lr_scheduler_type": "constant",
    "save_strategy": "no",
    "logging_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}


def adamw(parameters: Any) -> torch.optim.Optimizer:
    """Optimizer of configs/sft/describe.yaml."""
    return torch.optim.AdamW(parameters, lr=2e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0)


class Ours:
    """Lightning's Trainer with `SFT`, as the command line runs it.

    Args:
        backbone: with its weights.
        settings: of the rows to learn.
        batch: rows of a step.
        precision: of Lightning.

    Attributes:
        rows: one by one.
    """

    def __init__(
        self,
        backbone: VisionLanguageModel,
        settings: ConversationSettings,
        batch: int,
        precision: Precision = "32-true",
    ) -> None:
        self.backbone, self.settings = backbone, settings
        self.batch, self.precision = batch, precision
        self.method = SFT(backbone, TASK, adamw, (), SMOOTHING, warmup=0.0, decay="none")
        self.rows = Rows(self.data(), backbone)

    def data(self) -> BIQADataModule:
        """The rows, grouped by length."""
        return BIQADataModule(
            train=["conversations"],
            val=[],
            sets=SetSettings(conversations=self.settings),
            loader=LoaderSettings(batch_size=self.batch, num_workers=0, group_by_length=True),
        )

    def fit(self, epochs: int, span: Span) -> None:
        """Train; the last epoch lies within the span."""
        device = self.backbone.device.type
        fitted(self.method, self.data(), epochs, span, device, self.precision)

    def loss(self, items: Sequence[Item]) -> float:
        """Loss of some rows, with the current weights."""
        with torch.no_grad():
            return float(self.method.compute_loss(collate(items))[0])


class Theirs:
    """transformers' Trainer, its order, and a collator that pads to the longest row.

    Args:
        ours: that trains on the same rows.
        backbone: another copy of the weights.
        folder: where the Trainer may write.
    """

    def __init__(self, ours: Ours, backbone: VisionLanguageModel, folder: Path) -> None:
        self.ours, self.backbone, self.folder = ours, backbone, folder
        backbone.model.set_attn_implementation("sdpa")
        backbone.model.config.get_text_config().use_cache = False

    def fit(self, epochs: int, span: Span) -> None:
        """Train; the last epoch lies within the span."""
        with quietly():
            self.trainer(epochs, span).train()

    def trainer(self, epochs: int, span: Span) -> Any:
        """One with a new optimizer."""
        settings = transformers.TrainingArguments(
            **LIKE_OURS,
            use_cpu=True,
            output_dir=str(self.folder),
            per_device_train_batch_size=self.ours.batch,
            dataloader_drop_last=True,
            num_train_epochs=epochs,
            label_smoothing_factor=SMOOTHING,
            remove_unused_columns=False,
        )
        return transformers.Trainer(
            self.backbone.model,
            settings,
            data_collator=self.collate,
            train_dataset=self.ours.rows,
            optimizers=(adamw(self.backbone.model.parameters()), None),
            callbacks=[Within(epochs, span)],
        )

    def collate(self, items: Sequence[Item]) -> dict[str, Tensor]:
        """Arguments of the model's forward, and labels."""
        return keywords(self.backbone, encoded(self.backbone, items))

    def loss(self, items: Sequence[Item]) -> float:
        """Loss of some rows, with the current weights."""
        with quietly(), torch.no_grad():
            trainer = self.trainer(1, nullcontext())
            return float(trainer.compute_loss(self.backbone.model, self.collate(items)))


def fitted(
    method: lightning.LightningModule,
    data: BIQADataModule,
    epochs: int,
    span: Span,
    device: str,
    precision: Precision,
    ranks: int = 1,
    callbacks: Sequence[lightning.Callback] = (),
    reshard: bool = True,
) -> lightning.Trainer:
    """Lightning's Trainer, after it has trained; the last epoch lies within the span.

    Of several ranks, which share the weights (FSDP2), each process calls it.
    """
    strategy: Any = "auto"
    if ranks > 1:
        strategy = ShardedStrategy(ranks, 1, False, reshard_after_forward=reshard)
    with quietly():
        trainer = lightning.Trainer(
            accelerator=device,
            devices=ranks,
            strategy=strategy,
            use_distributed_sampler=False,
            precision=precision,
            max_epochs=epochs,
            gradient_clip_val=CLIP,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Within(epochs, span), *callbacks],
        )
        trainer.fit(method, datamodule=data)
    return trainer


class Within(lightning.Callback, transformers.TrainerCallback):  # type: ignore[misc]
    """Enters a context as the last of so many epochs begins, under either Trainer."""

    def __init__(self, epochs: int, span: Span) -> None:
        self.left, self.span = epochs, span

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Called by transformers."""
        self.left -= 1
        if not self.left:
            self.span.__enter__()

    def on_train_epoch_start(self, *_: Any) -> None:
        """Called by Lightning."""
        self.on_epoch_begin()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Called by both."""
        self.span.__exit__(None, None, None)


@contextmanager
def quietly() -> Iterator[None]:
    """Nothing but figures is printed."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.enable_progress_bar()
        log.setLevel(level)
