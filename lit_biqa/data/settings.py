"""Settings of the DataModule, grouped as on the command line: ``data.loader.batch_size``."""

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
    """Reading of data sets, and content of the two sets that are made by settings.

    Attributes:
        labels: ``whole`` refuses a label file of the catalogue with missing rows or changed scores;
            ``partial`` accepts it with a warning.
        scale: worst and best score in your CSV files, which are mapped to [1, 5]: ``[0, 100]``, or
            ``[100, 0]`` if a higher number is worse.
        synthetic: content of the data set ``synthetic``.
        conversations: content of the data set ``conversations``; ``None`` if it is not used.
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
        fields: fields of their records that hold texts, such as ``perception_text:think``.
        annotations: JSON of human-written texts (`lit_biqa.data.annotations`), which take the
            place of other texts; images that it does not name have none.
        per_image: train on the first so many texts of each image; ``None`` for all.
        clean: content to remove from all texts: ``ratings`` removes each sentence that gives a
            rating as a number.

    Raises:
        InputError: for a number out of range.
    """

    files: Sequence[str] = ()
    fields: Sequence[str] = DEFAULT_FIELDS
    annotations: str | None = None
    per_image: int | None = None
    clean: Literal["ratings"] | None = None

    def __post_init__(self) -> None:
        check_range("data.texts.per_image", self.per_image, 1)


@dataclass(frozen=True)
class ImageSettings:
    """Images, or the embeddings that replace them.

    Attributes:
        missing: images that are absent, or without a cached embedding, although the label file
            names them: ``error``, or ``skip`` to leave them out. A method that reads no images
            needs none.
        on_bad: unreadable images. ``error`` stops and names the image; ``skip`` trains on another
            image instead and gives no score in evaluation. Prediction always gives such an image
            a row with its status.
        max_pixels: largest width times height; a larger image counts as unreadable and is not
            decoded.
        embeddings: file of cached embeddings (`lit_biqa.data.embeddings`). ``pixels`` are then
            these vectors ``[B, D]`` and no image is read; a part without named data sets is the
            one in the file.

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
    """Batches, workers and the seed.

    Attributes:
        batch_size: rows per training step over all processes.
        eval_batch_size: images per step of evaluation over all processes.
        num_workers: number of loader workers per process.
        group_by_length: train on batches of texts of like length, so that less is padded; GRPO,
            which trains on images and not on their texts, is unaffected.
        seed: seed of the held-out part, the order of training and the augmentations.

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
