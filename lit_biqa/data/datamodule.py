"""All data of a run behind one object: what is trained on, validated, tested and predicted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import LightningDataModule

from lit_biqa.data.catalog import load_split
from lit_biqa.data.dataset import (
    BatchLoader,
    EvaluateReader,
    EvaluateTransform,
    OnBadImage,
    QualityDataset,
    Reader,
    TrainReader,
    TrainTransform,
    collate,
)
from lit_biqa.data.embeddings import EmbeddingReader, read_embeddings
from lit_biqa.data.heldout import hold_out, overlap
from lit_biqa.data.texts import DEFAULT_FIELDS, attach_texts
from lit_biqa.parallel import GlobalBatchSampler
from lit_biqa.types import InputError, Sample

log = logging.getLogger(__name__)


class BIQADataModule(LightningDataModule):
    """Trains on a mixture of data sets, tests on many at once, predicts on folders and files.

    A data set is named as ``NAME[/SPLIT[:PART]]`` (see `lit_biqa.data.catalog`), or by the path
    of a CSV of one's own. The method hands its transforms over by `use_transforms` before
    loaders are asked for, so workers do the pixels and this object knows no model.

    All batch sizes count the images of one step over all processes, and the loaders bring their
    own sampler: a Trainer must be made with ``use_distributed_sampler=False``. A training loader
    that is made while the Trainer resumes within an epoch goes on with the batch it had reached.

    Args:
        root: folder under which the data sets lie.
        train: data sets to train on, mixed; their train part unless they say otherwise.
        val: data sets to validate on; where ``None``, a part of ``train`` is held out.
        test: data sets to test on, all in one pass.
        predict: folders, image files or data sets to score.
        texts: files of texts about the training images (`lit_biqa.data.texts`), relative to the
            working directory or to ``root``.
        text_fields: which fields of their records are texts, such as ``perception_text:think``.
        texts_per_image: train on the first so many texts of each image; ``None`` for all.
        batch_size: rows of a training step over all processes.
        eval_batch_size: images of any other step over all processes.
        num_workers: processes that read images, for each process that computes.
        val_fraction: share of each training set held out where ``val`` is ``None``.
        seed: of the held-out part, the order of training and the augmentations.
        missing: whether images that the label file names and the disk lacks are an error.
        on_bad_image: what becomes of an image that cannot be read. ``error`` stops, naming it;
            ``skip`` trains on another instead and gives it no score where it is evaluated.
            Prediction always gives such an image a row with its status.
        embeddings: file of cached embeddings; ``pixels`` are then these vectors ``[B, D]``.
    """

    def __init__(
        self,
        root: str | Path = "data",
        train: list[str] | None = None,
        val: list[str] | None = None,
        test: list[str] | None = None,
        predict: list[str] | None = None,
        texts: list[str] | None = None,
        text_fields: Sequence[str] = DEFAULT_FIELDS,
        texts_per_image: int | None = None,
        batch_size: int = 64,
        eval_batch_size: int = 64,
        num_workers: int = 2,
        val_fraction: float = 0.1,
        seed: int = 0,
        missing: Literal["error", "skip"] = "error",
        on_bad_image: Literal["error", "skip"] = "error",
        embeddings: str | None = None,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.specs = {"train": train, "val": val, "test": test, "predict": predict}
        self.texts, self.text_fields = texts or [], list(text_fields)
        self.texts_per_image = texts_per_image
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.num_workers, self.seed = num_workers, seed
        self.val_fraction, self.missing, self.on_bad_image = val_fraction, missing, on_bad_image
        self.embeddings = embeddings
        self.samples: dict[str, list[Sample]] = {}
        self._train_transform: TrainTransform | None = None
        self._evaluate_transform: EvaluateTransform | None = None

    def use_transforms(self, train: TrainTransform, evaluate: EvaluateTransform) -> None:
        """Say how images become pixels; to be called in the method's ``setup``."""
        self._train_transform, self._evaluate_transform = train, evaluate

    def setup(self, stage: str) -> None:
        """Find the images of a stage, before any weights are loaded.

        Raises:
            InputError: if a data set or file of texts is not as it should be.
        """
        if stage in ("fit", "validate") and "train" not in self.samples:
            self._setup_fit()
        if stage in ("fit", "test") and "test" not in self.samples:
            self.samples["test"] = self._load("test")
        self._warn_of_overlap()

    def _setup_fit(self) -> None:
        train, val = self._load("train"), self._load("val")
        if self.specs["val"] is None:
            train, val = hold_out(train, self.val_fraction, self.seed)
        files = [self._find_file(file) for file in self.texts]
        train = attach_texts(train, files, self.text_fields, self.texts_per_image)
        self.samples.update(train=train, val=val)

    def _load(self, part: str) -> list[Sample]:
        splits = [load_split(s, part, self.root, self.missing) for s in self.specs[part] or []]
        return [sample for split in splits for sample in split.samples]

    def _find_file(self, name: str) -> Path:
        path = Path(name)
        return path if path.is_file() or path.is_absolute() else self.root / path

    def _warn_of_overlap(self) -> None:
        both = overlap(self.samples.get("train", []), self.samples.get("test", []))
        for dataset, count in both.items():
            log.warning("%d test images of %s are trained on too", count, dataset)

    def train_dataloader(self) -> BatchLoader:
        """Shuffled rows, one for each text of each image; one for each image without texts."""
        assert self._train_transform is not None
        bad: OnBadImage = "replace" if self.on_bad_image == "skip" else "error"
        rows = QualityDataset(
            self.samples["train"], TrainReader(self._train_transform), True, bad, self.seed
        )
        sampler = GlobalBatchSampler(
            len(rows), self.batch_size, shuffle=True, seed=self.seed, drop_last=True
        )
        return self._loader(rows, sampler)

    def gallery_dataloader(self) -> BatchLoader:
        """Every training image once, in order, as it is seen in evaluation."""
        return self._evaluation("train")

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """All validation sets in one loader; none where nothing is held out."""
        return self._evaluation("val") if self.samples["val"] else []

    def test_dataloader(self) -> BatchLoader:
        """All test sets in one loader; rows carry their data set."""
        return self._evaluation("test")

    def _evaluation(self, part: str) -> BatchLoader:
        assert self._evaluate_transform is not None
        bad: OnBadImage = "mark" if self.on_bad_image == "skip" else "error"
        rows = QualityDataset(self.samples[part], EvaluateReader(self._evaluate_transform), False, bad)
        return self._loader(rows, GlobalBatchSampler(len(rows), self.eval_batch_size, False))

    def _loader(self, rows: QualityDataset, sampler: GlobalBatchSampler) -> BatchLoader:
        # Batches come from the sampler: Lightning replaces batch samplers where it predicts.
        return BatchLoader(
            dataset=rows,
            sampler=sampler,
            batch_size=None,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
