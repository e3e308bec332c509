"""Predictions from a file instead of a method, for ``test`` and ``validate``."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.names import Key, Mention, join
from lit_biqa.data.readers.tables import csv_rows
from lit_biqa.data.texts import json_items
from lit_biqa.io.digests import digest_of_plain
from lit_biqa.io.files import refuse_special
from lit_biqa.methods.evaluation import Evaluator
from lit_biqa.types import Batch, InputError, Prediction, Sample

log = logging.getLogger(__name__)

Record = Mapping[str, Any]
Scored = tuple[float, str]  # score, nan where there is none, and status

ABSENT: Scored = (math.nan, "no prediction")
REMEDY = "test the data sets one by one, or name the column of the data set with model.dataset"


class Predictions(Evaluator):
    """Scores read from a file and matched to the data sets by image name; no image is opened.

    ``lit_biqa test --model Predictions --model.path scores.csv --data.test [koniq10k/paper3015]``
    tests them like those of any model; the data set's label file is enough.

    Args:
        path: a ``.csv`` with a header, or a JSON list or JSON Lines of records.
        columns: column of the score for each condition, such as
            ``{image: overall_score, text: caption_score}``.
        image: column of the image name, with or without folders (`lit_biqa.data.names`).
        dataset: column of the data set name; needed if two data sets share image names.

    Attributes:
        source: digest of the scores, which separates their rows in a run's results from those of
            another file or column.

    Raises:
        InputError: if the file is absent or broken, lacks a column, names an image twice, or has a
            column without any score.
    """

    opens_images = False

    def __init__(
        self,
        path: str,
        columns: dict[str, str] | None = None,
        image: str = "image",
        dataset: str | None = None,
    ) -> None:
        super().__init__()
        self.path, self.image, self.dataset = Path(path), image, dataset
        self.columns = columns or {"image": "score"}
        self.places: dict[Mention, str] = {}
        self.records = self._read()
        self.source = digest_of_plain([[*key, scores] for key, scores in self.records.items()])
        self._mentions: dict[Key, Mention] = {}

    def _read(self) -> dict[Mention, dict[str, Scored]]:
        """Scores by data set (empty without such a column) and image name, and by condition."""
        keys = [self.image, *([self.dataset] if self.dataset else [])]
        scores_of: dict[Mention, dict[str, Scored]] = {}
        for place, record in read_table(self.path, keys, [*self.columns.values()]):
            key = str(record[self.dataset]) if self.dataset else "", str(record[self.image])
            if key in scores_of:
                raise InputError(f"{place}: a second prediction for {key[1]}; keep one of them.")
            self.places[key] = place
            scores_of[key] = {c: read_score(record.get(name)) for c, name in self.columns.items()}
        for condition, name in self.columns.items():
            if all(scores[condition][1] != "ok" for scores in scores_of.values()):
                raise InputError(f"{self.path}: not one score in column {name!r}; name another.")
        return scores_of

    def setup(self, stage: str) -> None:
        """Match predictions to images, and warn of images without one.

        Raises:
            InputError: if no image has a prediction, a prediction matches several images, or
                several match one.
        """
        data: BIQADataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        data.use_transforms(None, None)
        samples = data.samples[{"validate": "val"}.get(stage, stage)]
        joined = join(samples, self.places, remedy=REMEDY)
        self._mentions = {key: mention for mention, key in joined.items()}
        self._tell(samples)

    def _tell(self, samples: Sequence[Sample]) -> None:
        matches = [(s, self._mentions.get((s.dataset, s.index))) for s in samples]
        without = sum(mention is None for _, mention in matches)
        if without == len(samples):
            some = ", ".join(name for _, name in list(self.records)[:3])
            raise InputError(
                f"{self.path}: no prediction for any of the {len(samples)} images, such as "
                f"{samples[0].name}; it names {some}. Check data.test and model.image."
            )
        if without:
            log.warning("%s: no prediction for %d of %d images", self.path, without, len(samples))
        other = [(mention[1], s.name) for s, mention in matches if mention and mention[1] != s.name]
        if other:
            log.warning(
                "%s: %d of %d images are matched by the last parts of their names, such as %s (%s)",
                *(self.path, len(other), len(samples), other[0][1], other[0][0]),
            )

    def _scored(self, batch: Batch, row: int, condition: str) -> Scored:
        mention = self._mentions.get((batch["dataset"][row], int(batch["index"][row])))
        return self.records[mention][condition] if mention else ABSENT

    def predict(self, batch: Batch) -> list[Prediction]:
        """One row for each image and condition; a row without a score says why."""
        return [
            Prediction(
                dataset=batch["dataset"][row],
                split=batch["split"][row],
                index=int(batch["index"][row]),
                name=name,
                mos=float(batch["mos"][row]),
                score=score,
                condition=condition,
                status=status,
                group=batch["samples"][row].group,
            )
            for row, name in enumerate(batch["name"])
            for condition in self.columns
            for score, status in [self._scored(batch, row, condition)]
        ]


def read_table(
    path: Path, keys: Sequence[str], values: Sequence[str]
) -> Iterator[tuple[str, Record]]:
    """Records of a CSV or JSON file, each with its place.

    Args:
        path: the file.
        keys: columns that every record must fill.
        values: columns that at least one record must have.

    Raises:
        InputError: if the file is absent or broken, empty, or lacks one of the columns.
    """
    columns = [*keys, *values]
    refuse_special(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file of predictions; check model.path")
    if path.suffix.lower() == ".csv":
        rows = [(row.place, row.cells) for row in csv_rows(path, columns)]
    else:
        rows = list(json_items(path))
    held = {name for _, record in rows if isinstance(record, dict) for name in record}
    absent = [name for name in columns if name not in held]
    if absent:
        raise InputError(
            f"{path}: no column {', '.join(absent)}; it has {', '.join(sorted(held)) or 'none'}"
        )
    for place, record in rows:
        if not isinstance(record, dict) or not all(record.get(key) for key in keys):
            raise InputError(f"{place}: a record with {', '.join(keys)} expected: {record!s:.80}")
        yield place, record


def read_score(value: object) -> Scored:
    """Score of a cell, with status; ``nan`` if it is empty or no finite number."""
    if value is None or not str(value).strip():
        return math.nan, "no score"
    try:
        score = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        score = math.nan
    return (score, "ok") if math.isfinite(score) else (math.nan, f"not a number: {value!s:.40}")
