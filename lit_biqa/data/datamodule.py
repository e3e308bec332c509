"""DataModule of a run: training, validation, test and prediction data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn

from lit_biqa import limits
from lit_biqa.data.annotations import annotate_parts
from lit_biqa.data.dataset import (
    BlindReader,
    EvaluateReader,
    EvaluateTransform,
    OnBadImage,
    QualityDataset,
    Reader,
    TrainReader,
    TrainTransform,
    collate,
)
from lit_biqa.data.embeddings import EmbeddingReader, Embeddings, read_embeddings
from lit_biqa.data.frozen_features import FeatureReader, FrozenNetwork, cached_features
from lit_biqa.data.loader import BatchLoader, ResumingSampler
from lit_biqa.data.parts import hold_out, is_dataset, limited, to_predict, warn_of_overlap
from lit_biqa.data.protocols import expanded
from lit_biqa.data.settings import ImageSettings, LoaderSettings, SetSettings, TextSettings
from lit_biqa.data.sources import Sources
from lit_biqa.data.texts import attach_to_parts, cleaned
from lit_biqa.distributed import GlobalBatchSampler
from lit_biqa.io.files import find
from lit_biqa.types import Batch, InputError, Sample, check_range

Part = Literal["train", "val", "test"]


class BIQADataModule(LightningDataModule):
    """Trains on a mixture of data sets, tests on many at once, predicts on folders and files.

    A data set is named as ``NAME[/SPLIT[:PART]]`` (see `lit_biqa.data.catalog`), or by the path
    of a user's CSV. The method sets its transforms with `use_transforms` before loaders are made,
    so that workers apply them and this class imports no model.

    All batch sizes count the images of one step over all processes, and the loaders have their own
    sampler: make the Trainer with ``use_distributed_sampler=False``. A run that resumes within an
    epoch continues with the next batch.

    Args:
        root: folder under which the data sets lie.
        train: data sets to train on, mixed; their train part unless they name another.
        val: data sets to validate on, or the share of each training set that is held out.
        test: data sets to test on, all in one pass, or a paper's, as
            ``protocol/reasoning_as_representation`` (`lit_biqa.data.protocols`).
        predict: a folder, image file or data set to score, or a list of them.
        sets: how data sets are read, and the content of ``synthetic`` and ``conversations``.
        texts: texts about the images; training images should have some.
        images: images that are absent, broken or too large, or embeddings instead of images.
        loader: batches, workers and the seed.
        limit: images that are taken of each data set, at random by the loader's seed, to try a
            recipe in a minute; ``None`` takes all. Results name such a split ``SPLIT-limit-N``,
            with a digest of its own.

    Raises:
        InputError: for numbers out of range.
    """

    def __init__(
        self,
        root: str = "data",
        train: list[str] | None = None,
        val: list[str] | float = 0.1,
        test: list[str] | str | None = None,
        predict: list[str] | str | None = None,
        sets: SetSettings = SetSettings(),
        texts: TextSettings = TextSettings(),
        images: ImageSettings = ImageSettings(),
        loader: LoaderSettings = LoaderSettings(),
        limit: int | None = None,
    ) -> None:
        super().__init__()
        check_range("data.limit", limit, 1)
        self.limit = limit
        self.root = Path(root)
        self.sources = Sources(self.root, sets, images.missing)
        self.val_share = 0.0 if isinstance(val, list) else val
        named = val if isinstance(val, list) else None
        test = [test] if isinstance(test, str) else test
        self.specs: dict[str, list[str] | None] = {
            part: specs if specs is None else expanded(specs, part)
            for part, specs in (("train", train), ("val", named), ("test", test))
        }
        self.predict = [predict] if isinstance(predict, str) else predict or []
        self.texts, self.images, self.loader = texts, images, loader
        self.cached = Path(images.embeddings) if images.embeddings else None
        self.samples: dict[str, list[Sample]] = {}
        # For the method to set: how often each batch of training comes in a row, and whether an
        # image is trained on once for each of its texts, or once.
        self.repeats, self.row_per_text = 1, True
        self._embeddings: Embeddings | None = None
        self._features: dict[Path, torch.Tensor] = {}  # of a frozen network, by image file
        self._train: Reader | None = None
        self._evaluate: Reader | None = None

    def use_transforms(
        self, train: TrainTransform | None, evaluate: EvaluateTransform | None
    ) -> None:
        """Set the transforms from images to pixels; the method's ``setup`` calls it.

        Args:
            train: for training rows; ``None`` reads no image, and pixels are a list of ``None``.
            evaluate: for all other rows, likewise.
        """
        if self.cached is None:
            most = self.images.max_pixels
            self._train = TrainReader(train, most) if train else BlindReader()
            rated = limits.RATED_SIDE
            self._evaluate = EvaluateReader(evaluate, most, rated) if evaluate else BlindReader()
            self._read_features()

    def use_features(self, network: FrozenNetwork, device: torch.device) -> None:
        """Read features of a frozen network instead of pixels; the method's ``load`` calls it.

        Only images of data sets have cached features: of an image to predict, pixels are read.
        """
        parts = (self.samples.get(part, []) for part in ("train", "val", "test"))
        samples = [sample for part in parts for sample in part]
        self._features = cached_features(network, samples, self.images.max_pixels, device)
        self._read_features()
        paths = [sample.path for sample in self.samples.get("train", [])]
        if rows := [self._features[path] for path in paths if path in self._features]:
            network.observe(torch.stack(rows).float())

    def _read_features(self) -> None:
        """Read features, where there are any, in the place of pixels."""
        if not self._features or not isinstance(self._evaluate, EvaluateReader):
            return
        self._evaluate = FeatureReader(self._evaluate, self._features)
        if isinstance(self._train, TrainReader):  # training may open no image
            self._train = self._evaluate

    @property
    def opens_images(self) -> bool:
        """True if images must exist; the method's ``opens_images`` overrides it."""
        method = self.trainer.lightning_module if self.trainer else None
        return getattr(method, "opens_images", True)

    def prepare_data(self) -> None:
        """Check all names; make ``synthetic`` if this stage reads it and it is absent."""
        named = {part: specs or [] for part, specs in self.specs.items()}
        named["predict"] = [spec for spec in self.predict if is_dataset(spec)]
        parts = self._parts_read()
        self.sources.prepare(
            [spec for specs in named.values() for spec in specs],
            [spec for part in parts for spec in named[part]],
        )

    def _parts_read(self) -> tuple[str, ...]:
        """Parts whose data sets a stage reads: a test reads no training set."""
        stage = self.trainer.state.fn if self.trainer else None
        if stage == TrainerFn.PREDICTING:
            return ("predict",)
        if stage == TrainerFn.TESTING:
            return ("test",)
        if stage == TrainerFn.VALIDATING and self.specs["val"]:
            return ("val",)
        return ("train", "val", "test", "predict")

    def setup(self, stage: str) -> None:
        """Find the samples of a stage, before any weights are loaded.

        A fit also looks for its test sets, so that an error in them comes first and not at the end.

        Raises:
            InputError: if a data set, or a file of texts or embeddings, is wrong.
        """
        if self.cached is not None and self._embeddings is None:
            self._embeddings = read_embeddings(self.cached)
            self._train = self._evaluate = EmbeddingReader(self._embeddings, self.cached)
        if stage == "predict":
            self.samples["predict"] = self._find_predicted()
            return
        samples: dict[str, list[Sample]] = {}
        if stage == "validate" and self.specs["val"]:
            samples["val"] = self._find("val")
        elif stage in ("fit", "validate"):
            samples["train"], samples["val"] = self._find_training()
        if stage in ("fit", "test"):
            samples["test"] = self._find("test")
            warn_of_overlap(samples.get("train", []), samples["test"])
        self.samples.update(self._with_texts(samples))

    def _find_training(self) -> tuple[list[Sample], list[Sample]]:
        train = self._find("train")
        if not train:
            raise InputError("nothing to train on: name data sets in data.train")
        # If training sets are named, they may contain the images that the embeddings hold out.
        val = self._find("val") if self.specs["val"] or not self.specs["train"] else []
        if not val and self.specs["val"] is None:
            return hold_out(train, self.val_share, self.loader.seed)
        return train, val

    def _find(self, part: Part) -> list[Sample]:
        specs = self.specs[part]
        if specs is None:
            return self._embeddings.samples(part) if self._embeddings else []
        return [sample for spec in specs for sample in self._load(spec, part)]

    def _load(self, spec: str, part: Part) -> list[Sample]:
        samples = self.sources.load(spec, part, self.opens_images)
        if self.limit is not None:
            samples = limited(samples, self.limit, self.loader.seed)
        if isinstance(self._evaluate, EmbeddingReader):
            return self._evaluate.held(samples, self.images.missing == "skip")
        return samples

    def _with_texts(self, parts: dict[str, list[Sample]]) -> dict[str, list[Sample]]:
        files = [find(file, self.root) for file in self.texts.files]
        joined = attach_to_parts(parts, files, self.texts.fields, self.texts.per_image)
        if self.texts.annotations:
            whole = self.limit is None and self.images.missing == "error"
            joined = annotate_parts(joined, find(self.texts.annotations, self.root), whole)
        return {part: cleaned(s) for part, s in joined.items()} if self.texts.clean else joined

    def _find_predicted(self) -> list[Sample]:
        if not self.predict:
            raise InputError("nothing to predict: name folders or image files in data.predict")
        named = [spec for spec in self.predict if is_dataset(spec)]
        others = [item for item in self.predict if not is_dataset(item)]
        files = to_predict(others)
        if self.limit is not None:
            files = limited(files, self.limit, self.loader.seed)
        return [*files, *(s for spec in named for s in self._load(spec, "test"))]

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Move the tensor columns; Lightning would also walk through the messages of ``prompt``."""
        return {
            name: column if name == "prompt" else move_data_to_device(column, device)
            for name, column in batch.items()
        }

    def train_dataloader(self) -> BatchLoader:
        """Shuffled rows, one for each text of each image; one for each image without texts.

        Where the method sets ``row_per_text`` to false there is one row for each image.
        """
        bad: OnBadImage = "replace" if self.images.on_bad == "skip" else "error"
        seed, pairs = self.loader.seed, self.cached is None and self.row_per_text
        rows = QualityDataset(self.samples["train"], _ready(self._train), pairs, bad, seed)
        lengths = rows.lengths if self.loader.group_by_length and self.row_per_text else None
        sampler = ResumingSampler(
            self.trainer, len(rows), self.loader.batch_size, seed, lengths, self.repeats
        )
        return self._loader(rows, sampler)

    def gallery_dataloader(self) -> BatchLoader:
        """Every training image once, in order, with the transform of evaluation."""
        return self._evaluation("train")

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """All validation sets in one loader; no loader if nothing is held out."""
        return self._evaluation("val") if self.samples["val"] else []

    def test_dataloader(self) -> BatchLoader:
        """All test sets in one loader; rows carry their data set."""
        if not self.samples["test"]:
            raise InputError("nothing to test on: name data sets in data.test")
        return self._evaluation("test")

    def predict_dataloader(self) -> BatchLoader:
        """All images to score in one loader; unreadable ones carry a status."""
        return self._evaluation("predict", "mark")

    def _evaluation(self, part: str, bad: OnBadImage | None = None) -> BatchLoader:
        bad = bad or ("mark" if self.images.on_bad == "skip" else "error")
        rows = QualityDataset(self.samples[part], _ready(self._evaluate), on_bad_image=bad)
        return self._loader(rows, GlobalBatchSampler(len(rows), self.loader.eval_batch_size, False))

    def _loader(self, rows: QualityDataset, sampler: GlobalBatchSampler) -> BatchLoader:
        # The sampler yields whole batches. If it were `batch_sampler`, Lightning would rebuild it
        # wrongly for prediction. PyTorch limits each worker to one thread by itself.
        return BatchLoader(
            dataset=rows,
            sampler=sampler,
            batch_size=None,
            collate_fn=collate,
            num_workers=self.loader.num_workers,
            persistent_workers=self.loader.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


def _ready(reader: Reader | None) -> Reader:
    assert reader is not None, "the method must call use_transforms in its setup"
    return reader
