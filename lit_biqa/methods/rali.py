"""RALI: an image encoder aligned with reasoning texts, read by scored prototypes."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_biqa.backbones.base import ImageTextEncoder
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.frozen_features import FrozenNetwork
from lit_biqa.distributed import all_gather
from lit_biqa.evaluation.store import PROTOTYPES
from lit_biqa.methods.base import Decay, Method
from lit_biqa.methods.evaluation import image_predictions
from lit_biqa.methods.finite import OnNonfinite
from lit_biqa.methods.gallery import Gallery
from lit_biqa.methods.nearest import write_nearest
from lit_biqa.objectives.alignment import contrastive_loss
from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import PrototypeHead
from lit_biqa.scoring.scorer import load_scorer, write_scorer
from lit_biqa.types import Batch, InputError, Prediction, Sample

log = logging.getLogger(__name__)


class RALI(Method):
    """Reasoning-Aligned Lightweight IQA (*Reasoning as Representation*, section 4).

    Each epoch aligns images with reasoning texts; an image without a text is used for the head
    alone. Before each validation the training images are embedded once and the head is fitted to
    them, so that every checkpoint is a complete scorer and the run can stop at the best held-out
    correlation. A fit of no epochs (``max_epochs: 0``)
    fits the head to the encoder as it is: table 4's "no alignment". With cached embeddings
    (``data.images.embeddings``) no image is opened and no encoder is loaded.

    Args:
        encoder: encoder of images and texts.
        optimizer: factory of the optimizer of the alignment.
        head: PCA, prototypes and their fit to MOS.
        warmup: share of the steps over which the learning rate rises.
        decay: shape of its decay afterwards.
        on_nonfinite: ``stop`` the fit at a step that is not finite, or ``skip`` it.
        scorer: scorer whose encoder made the cached embeddings; needed only with these, because
            the refitted head is exported with that encoder.
    """

    def __init__(
        self,
        encoder: ImageTextEncoder,
        optimizer: OptimizerCallable,
        head: HeadSettings = HeadSettings(),
        warmup: float = 0.0,
        decay: Decay = "none",
        on_nonfinite: OnNonfinite = "stop",
        scorer: str | None = None,
    ) -> None:
        super().__init__(optimizer, warmup, decay, on_nonfinite)
        self.encoder, self.base_scorer = encoder, scorer
        self.head = PrototypeHead(encoder.dim, head)
        self.gallery = Gallery(self, self.embed)
        self.head_is_current = False

    @property
    def data(self) -> BIQADataModule:
        """The DataModule of the run."""
        data: BIQADataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        return data

    @property
    def cached(self) -> bool:
        """True if batches hold embeddings instead of pixels."""
        return self.data.cached is not None

    def setup(self, stage: str) -> None:
        """Set the transforms, and check everything that needs no weights.

        Raises:
            InputError: if the head does not suit the number of training images, an image has no
                MOS, no image has a text, or a refit lacks its scorer.
        """
        self.data.use_transforms(self.encoder.train_transform, self.encoder.eval_transform)
        if stage != "fit":
            return
        samples = self.data.samples["train"]
        if unrated := [sample.name for sample in samples if not math.isfinite(sample.mos)]:
            raise InputError(
                f"{len(unrated)} of {len(samples)} training images have no MOS for the head to be "
                f"fitted to ({', '.join(unrated[:3])}): take their data set out of data.train."
            )
        self.head.settings.check(len(samples), self.encoder.dim)
        if self.cached:
            if self.base_scorer is None:
                raise InputError(
                    "data.images.embeddings refits a head alone: name the scorer whose encoder "
                    "they came from with model.scorer, and set trainer.max_epochs to 0."
                )
            self._check_base_scorer(self.base_scorer)
        elif self.trainer.max_epochs != 0:
            self._check_texts(samples)

    def _check_texts(self, samples: Sequence[Sample]) -> None:
        """Warn of images without a text, which are used for the head alone."""
        bare = [sample.name for sample in samples if not sample.texts]
        some = f"{len(bare)} of {len(samples)} training images have no text ({', '.join(bare[:3])})"
        if len(bare) == len(samples):
            raise InputError(
                f"{some}: there is nothing to align with. Name files of texts in data.texts.files, "
                f"or skip alignment with trainer.max_epochs=0."
            )
        if bare:
            log.warning("%s: the head alone is fitted to them", some)

    def _check_base_scorer(self, path: str) -> None:
        if self.trainer.max_epochs != 0:
            raise InputError(
                "cached embeddings cannot be aligned: set trainer.max_epochs to 0 to refit the "
                "head, or data.images.embeddings to null to train the encoder."
            )
        dim = load_scorer(path).encoder["dim"]
        if dim != self.encoder.dim:
            raise InputError(
                f"{path} embeds in {dim} dimensions, model.encoder in {self.encoder.dim}: "
                f"give model.encoder the settings of the run that made both."
            )

    def load(self) -> None:
        """Load the encoder, unless its embeddings are cached."""
        if not self.cached:
            self.encoder.load()

    def frozen_network(self) -> FrozenNetwork | None:
        """The encoder's image network if it is frozen."""
        return None if self.cached else self.encoder.frozen_network()

    def shard(self) -> None:
        """Shard the encoder; the head is small and whole on every rank."""
        assert self.device_mesh is not None
        self.encoder.shard(self.device_mesh["data_parallel"], self.reshard_after_forward)

    def compute_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrastive loss over the texts and images of all ranks."""
        self.head_is_current = False
        images, texts, scale = self.encoder(batch["pixels"], batch["text"])
        ids = image_ids(batch).to(images.device)
        # Every rank computes the loss of the whole batch.
        images, texts = all_gather(images), all_gather(texts)
        loss = contrastive_loss(images, texts, scale, all_gather(ids))
        return loss, {"scale": scale.detach().squeeze()}

    def embed(self, batch: Batch) -> Tensor:
        """Embeddings ``[B, D]`` of a batch, or the cached ones that it holds."""
        pixels: Tensor = batch["pixels"]
        return pixels if self.cached else self.encoder.encode_images(pixels)

    def predict(self, batch: Batch) -> list[Prediction]:
        """One row for each image.

        Raises:
            InputError: if the head was never fitted.
        """
        if not self.head.fitted:
            raise InputError("the head is not fitted: name a trained run with --ckpt_path.")
        embeddings = self.embed(batch)
        self.gallery.keep(batch, embeddings)
        return image_predictions(batch, self.head(embeddings))

    def fit_head(self) -> dict[str, float]:
        """Embed the training images and fit the head to them, the same on every rank."""
        gallery = self.gallery.collect("train")
        mos = torch.tensor([row.mos for row in gallery.rows])
        self.head_is_current = True
        return self.head.fit(gallery.vectors.to(self.device), mos.to(self.device))

    def on_validation_epoch_start(self) -> None:
        """In a fit, fit a head to the current encoder, which the validation uses."""
        if self.fitting:
            report = self.fit_head()
            named = {f"head/{name}": value for name, value in report.items()}
            # Equal on every rank already; without sync_dist Lightning would warn.
            self.log_dict(named, sync_dist=True)

    def on_train_epoch_end(self) -> None:
        """Fit the head for the checkpoint if no validation did."""
        if not self.head_is_current:
            self.fit_head()

    def on_fit_end(self) -> None:
        """Fit the head if no epoch did; have the test that follows cache all embeddings."""
        if not self.head.fitted:
            self.fit_head()
        if not self.cached:
            self.gallery.cache_to = Path(self.trainer.default_root_dir) / "embeddings.safetensors"

    def ship(self, folder: Path, state: dict[str, Tensor]) -> None:
        """Write ``scorer.safetensors``: the image tower with the head, and their settings."""
        head = PrototypeHead(self.encoder.dim, self.head.settings)
        head.load_state_dict(_below("head.", state))
        path = folder / "scorer.safetensors"
        if self.cached:
            assert self.base_scorer is not None
            base = load_scorer(self.base_scorer)
            write_scorer(path, base.tower.state_dict(), head, base.encoder)
            return
        tower = self.encoder.image_tower
        name = next(name for name, module in self.named_modules() if module is tower)
        weights = _below(f"{name}.", state)
        write_scorer(path, weights, head, self.encoder.settings())

    def on_test_epoch_end(self) -> None:
        """After the test of a fit, write the embeddings of its images, and the prototypes."""
        if (cache := self.gallery.cache_to) is None:
            return
        training = self.gallery.write()
        if self.trainer.is_global_zero:
            samples = self.data.samples["train"]
            write_nearest(cache.with_name(PROTOTYPES), self.head, training, samples)


def image_ids(batch: Batch) -> Tensor:
    """Number of each row's image, ``[B]``, the same on every rank and for all its texts."""
    pairs = zip(batch["dataset"], batch["index"].tolist(), strict=True)
    # crc32 and not hash(): ranks are processes, and each salts its hashes differently.
    return torch.tensor([zlib.crc32(f"{dataset}/{index}".encode()) for dataset, index in pairs])


def _below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
