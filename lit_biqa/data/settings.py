"""Settings of the data module, grouped as they are typed: ``data.loader.batch_size``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from lit_biqa import limits
from lit_biqa.data.catalog import Labels
from lit_biqa.data.feedbacks import ConversationSettings
from lit_biqa.data.readers.csv_file import ON_MOS, Scale
from lit_biqa.data.synthetic import SyntheticSettings
from lit_biqa.data.texts import DEFAULT_FIELDS
from lit_biqa.types import InputError, check_range


@dataclass(frozen=True)
class SetSettings:
    """How data sets are read, and what the two sets are made of that have no fixed content.

    Attributes:
        labels: ``whole`` refuses a label file of the catalogue that has lost rows or whose scores
            differ from its authors'; ``partial`` goes on with what is there, and tells.
        scale: worst and best score in CSV files of one's own, which are mapped onto [1, 5]:
            ``[0, 100]``, or ``[100, 0]`` where a higher number is worse.
        synthetic: content of the data set ``synthetic``.
        conversations: content of the data set ``conversations``; ``None`` where none is named.
    """

    labels: Labels = "whole"
    scale: Scale = ON_MOS
    synthetic: SyntheticSettings = field(default_factory=SyntheticSettings)
    conversations: ConversationSettings | None = None

    def __post_init__(self) -> None:
        worst, best = self.scale
        if not (math.isfinite(worst) and math.isfinite(best) and worst != best):
            raise InputError(
                f"data.sets.scale is [{worst:g}, {best:g}]: give the worst and the best score, two "
                "different numbers"
            )


@dataclass(frozen=True)
class TextSettings:
    """Texts about the images.

    Attributes:
        files: JSON files of texts (`lit_biqa.data.texts`), relative to the working directory or
            to ``data.root``.
        fields: fields of their records that are texts, such as ``perception_text:think``.
        per_image: train on the first so many texts of each image; ``None`` for all.
        clean: what is taken out of all texts: ``ratings``, each sentence that gives a rating as
            a number.

    Raises:
        InputError: for a number out of range.
    """

    files: Sequence[str] = ()
    fields: Sequence[str] = DEFAULT_FIELDS
    per_image: int | None = None
    clean: Literal["ratings"] | None = None

    def __post_init__(self) -> None:
        check_range("data.texts.per_image", self.per_image, 1)


@dataclass(frozen=True)
class ImageSettings:
    """Images, or the vectors that stand in for them.

    Attributes:
        missing: images that the label file names and the disk lacks, or of which no embedding is
            cached: an ``error``, or left out by ``skip``. A method that opens no image needs none.
        on_bad: an image that cannot be read. ``error`` stops, naming it; ``skip`` trains on
            another instead and gives it no score where it is evaluated. Prediction always gives
            such an image a row with its status.
        max_pixels: width times height that an image may have; a larger one counts as one that
            cannot be read, and is not decoded.
        embeddings: file of cached embeddings (`lit_biqa.data.embeddings`). ``pixels`` are then
            these vectors ``[B, D]``, no image is opened, and a part for which no data sets are
            named is what the file holds for it.

    Raises:
        InputError: for a number out of range.
    """

    missing: Literal["error", "skip"] = "error"
    on_bad: Literal["error", "skip"] = "error"
    max_pixels: int = limits.IMAGE_PIXELS
    embeddings: str | None = None

    def __post_init__(self) -> None:
        check_range("data.images.max_pixels", self.max_pixels, 1)


@dataclass(frozen=True)
class LoaderSettings:
    """Batches, and the seed of what is drawn at random.

    Attributes:
        batch_size: rows of a training step over all processes.
        eval_batch_size: images of any other step over all processes.
        num_workers: processes that read images, for each process that computes.
        group_by_length: train on batches of texts of like length, so that less is padded; GRPO,
            which trains on images and not on their texts, is unaffected.
        seed: of the held-out part, the order of training and the augmentations.

    Raises:
        InputError: for numbers out of range.
    """

    batch_size: int = 64
    eval_batch_size: int = 64
    num_workers: int = 2
    group_by_length: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("data.loader.batch_size", self.batch_size, 1)
        check_range("data.loader.eval_batch_size", self.eval_batch_size, 1)
        check_range("data.loader.num_workers", self.num_workers, 0)
        check_range("data.loader.seed", self.seed, 0)
