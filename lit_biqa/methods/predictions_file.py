"""Predictions from a file instead of a method, for ``test`` and ``validate``."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.names import Key, Mention, join
from lit_biqa.data.readers.tables import csv_rows
from lit_biqa.data.texts import json_items
from lit_biqa.io.digests import digest_of_plain
from lit_biqa.io.files import refuse_special
from lit_biqa.methods.evaluation import Evaluator, identity
from lit_biqa.text.parsing import OUTSIDE, on_scale
from lit_biqa.types import Batch, InputError, Prediction, Sample, check_range

log = logging.getLogger(__name__)

Record = Mapping[str, Any]
Scored = tuple[float, str]  # score, nan where there is none, and status
Outside = Literal["fail", "keep"]

ABSENT: Scored = (math.nan, "no prediction")
REMEDY = "test the data sets one by one, or name the column of the data set with model.dataset"


class Predictions(Evaluator):
    """Scores read from a file and matched to the data sets by image name; no image is opened.

    ``lit_biqa test --model Predictions --model.path scores.csv --data.test [koniq10k/paper3015]``
    tests them like those of any model; the data set's label file is enough.

    A score outside [1, 5] is a failure, as a rating of our own models is. Authors who write -1 for
    a failed answer and correlate it as a score print other figures: ``outside: keep`` gives these.

    Args:
        path: a ``.csv`` with a header, or a JSON list or JSON Lines of records; several files, or a
            pattern such as ``theirs/p*.json``, are one set of predictions.
        columns: column of the score for each condition, such as
            ``{image: overall_score, text: caption_score}``.
        image: column of the image name, with or without folders (`lit_biqa.data.names`).
        dataset: column of the data set name; needed if two data sets share image names.
        failed: number that stands for a failure, such as -1; it is never a score.
        outside: ``fail`` counts scores outside [1, 5] as failures, ``keep`` takes them as scores.
        coverage: least share of the images of each data set that have a prediction, on [0, 1].

    Attributes:
        source: digest of the scores, which separates their rows in a run's results from those of
            another file or column.

    Raises:
        InputError: if a file is absent or broken, lacks a column, names an image twice, or has a
            column of which at most half are scores on [1, 5].
    """

    opens_images = False

    def __init__(
        self,
        path: list[str] | str,
        columns: dict[str, str] | None = None,
        image: str = "image",
        dataset: str | None = None,
        failed: float | None = None,
        outside: Outside = "fail",
        coverage: float = 0.95,
    ) -> None:
        super().__init__()
        check_range("model.coverage", coverage, 0, 1)
        self.paths = files_of([path] if isinstance(path, str) else path)
        self.named = str(self.paths[0]) + f" and {len(self.paths) - 1} more" * bool(self.paths[1:])
        self.image, self.dataset = image, dataset
        self.failed, self.outside, self.coverage = failed, outside, coverage
        self.columns = columns or {"image": "score"}
        self.places: dict[Mention, str] = {}
        self.records = self._read()
        self.source = digest_of_plain([[*key, scores] for key, scores in self.records.items()])
        self._mentions: dict[Key, Mention] = {}

    def _read(self) -> dict[Mention, dict[str, Scored]]:
        """Scores by data set (empty without such a column) and image name, and by condition."""
        keys, columns = [self.image, *([self.dataset] if self.dataset else [])], self.columns
        scores_of: dict[Mention, dict[str, Scored]] = {}
        for path in self.paths:
            for place, record in read_table(path, keys, [*columns.values()]):
                key = str(record[self.dataset]) if self.dataset else "", str(record[self.image])
                if key in scores_of:
                    raise InputError(
                        f"{place}: a second prediction for {key[1]}; keep one of them."
                    )
                self.places[key] = place
                scores_of[key] = {c: self._score(record.get(name)) for c, name in columns.items()}
        for condition, name in columns.items():
            self._check(name, [scores[condition][1] for scores in scores_of.values()])
        return scores_of

    def _score(self, value: object) -> Scored:
        score, status = read_score(value)
        if score == self.failed:
            return math.nan, f"marked as failed: {score:g}"
        if status == "ok" and self.outside == "fail" and not on_scale(score):
            return math.nan, OUTSIDE
        return score, status

    def _check(self, column: str, statuses: Sequence[str]) -> None:
        """Refuse a column without scores or on another scale, and tell failures."""
        counts = Counter(statuses)
        outside = counts[OUTSIDE]
        if outside > counts["ok"]:
            raise InputError(
                f"{self.named}: {outside} of {len(statuses)} scores in column {column!r} lie "
                "outside [1, 5]: rescale them, or take them as they are with model.outside=keep"
            )
        if not counts["ok"]:
            raise InputError(f"{self.named}: not one score in column {column!r}; name another.")
        if outside:
            log.warning(
                "%s: %d of %d scores in column %r lie outside [1, 5] and count as failures; "
                "model.outside=keep takes them as scores",
                *(self.named, outside, len(statuses), column),
            )

    def setup(self, stage: str) -> None:
        """Match predictions to images, and warn of images without one.

        Raises:
            InputError: if fewer images have a prediction than ``coverage`` asks for, a prediction
                matches several images, or several match one.
        """
        data: BIQADataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        data.use_transforms(None, None)
        samples = data.samples[{"validate": "val"}.get(stage, stage)]
        joined = join(samples, self.places, remedy=REMEDY)
        self._mentions = {key: mention for mention, key in joined.items()}
        self._tell(samples)

    def _tell(self, samples: Sequence[Sample]) -> None:
        matches = [(s, self._mentions.get((s.dataset, s.index))) for s in samples]
        without = Counter(sample.dataset for sample, mention in matches if mention is None)
        if without.total() == len(samples):
            some = ", ".join(name for _, name in list(self.records)[:3])
            raise InputError(
                f"{self.named}: no prediction for any of the {len(samples)} images, such as "
                f"{samples[0].name}; it names {some}. Check data.test and model.image."
            )
        counts = Counter(sample.dataset for sample in samples)
        for dataset, absent in without.items():
            said = f"{self.named}: no prediction for {absent} of {counts[dataset]} images"
            if counts[dataset] - absent < self.coverage * counts[dataset]:
                raise InputError(
                    f"{said} of {dataset}: name all files of the set in model.path, as a list or a "
                    "pattern, or ask for less with model.coverage (now "
                    f"{self.coverage:g})"
                )
            log.warning("%s of %s", said, dataset)
        other = [(mention[1], s.name) for s, mention in matches if mention and mention[1] != s.name]
        if other:
            log.warning(
                "%s: %d of %d images are matched by the last parts of their names, such as %s (%s)",
                *(self.named, len(other), len(samples), other[0][1], other[0][0]),
            )

    def _scored(self, batch: Batch, row: int, condition: str) -> Scored:
        mention = self._mentions.get((batch["dataset"][row], int(batch["index"][row])))
        return self.records[mention][condition] if mention else ABSENT

    def predict(self, batch: Batch) -> list[Prediction]:
        """One row for each image and condition; a row without a score says why."""
        return [
            Prediction(
                **identity(batch, row),
                score=score,
                condition=condition,
                status=status,
            )
            for row in range(len(batch["name"]))
            for condition in self.columns
            for score, status in [self._scored(batch, row, condition)]
        ]


def files_of(paths: Sequence[str]) -> list[Path]:
    """Files that paths or patterns name, each once; those of a pattern are sorted by name.

    Raises:
        InputError: if a pattern matches no file, or there is no path.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        is_pattern = not path.exists() and any(mark in path.name for mark in "*?")
        files = sorted(path.parent.glob(path.name)) if is_pattern else [path]
        if not files:
            raise InputError(f"{path}: no file matches the pattern; check model.path")
        found |= dict.fromkeys(files)
    if not found:
        raise InputError("model.path names no file of predictions")
    return list(found)


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
