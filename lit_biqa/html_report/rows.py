"""Rows of a run folder, as a report shows them: scores and texts of each image, and its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_biqa.evaluation.conditions import IMAGE
from lit_biqa.evaluation.store import read_images, read_ratings

Key = tuple[str, str, str]
"""Data set, split and index of an image."""


@dataclass(frozen=True)
class Row:
    """A row of a `predictions.csv`.

    Attributes:
        key: data set, split and index, which identify the image.
        condition: input that the score was read from.
        weights: short digest of the weights behind the score.
        name: file name.
        mos: mean opinion score on [1, 5]; ``nan`` if unknown.
        score: predicted score; ``nan`` for a failure.
        status: ``ok``, or the reason for the missing score.
        group: group of the image, such as its generator; empty if it has none.
        text: text that the model wrote; empty if it wrote none.
        leaks: true if the text that the score was read from names a rating.
        path: file of the image; ``None`` if it is unknown.
    """

    key: Key
    condition: str
    weights: str
    name: str
    mos: float
    score: float
    status: str
    group: str
    text: str
    leaks: bool
    path: Path | None

    @property
    def dataset(self) -> str:
        """Data set and split in one text."""
        return f"{self.key[0]} {self.key[1]}"

    @property
    def test(self) -> tuple[str, str, str]:
        """Data set with split, condition and weights."""
        return self.dataset, self.condition, self.weights

    @property
    def error(self) -> float:
        """Score less MOS; ``nan`` if either is unknown."""
        return self.score - self.mos


def read_tested(run: Path) -> list[Row]:
    """Rows of the tests of a run; none if it was not tested.

    Raises:
        InputError: if a file cannot be read.
    """
    folder = run / "test"
    images = folder / "images.csv"
    places = {
        (line["dataset"], line["split"], line["index"]): line["path"]
        for line in (read_images(images) if images.is_file() else [])
    }
    return _rows(folder / "predictions.csv", places)


def read_scored(run: Path) -> list[Row]:
    """Rows that `predict` has written; none if it was not run.

    Raises:
        InputError: if the file cannot be read.
    """
    return _rows(run / "predictions.csv", {})


def _rows(file: Path, places: Mapping[Key, str]) -> list[Row]:
    ratings = read_ratings(file) if file.is_file() else ()
    return [_row(cells, score, mos, places) for cells, score, mos in ratings]


def _row(cells: Mapping[str, str], score: float, mos: float, places: Mapping[Key, str]) -> Row:
    key = cells["dataset"], cells["split"], cells["index"]
    path = cells.get("path") or places.get(key)
    return Row(
        key=key,
        condition=cells["condition"],
        weights=cells["weights"],
        name=cells["name"],
        mos=mos,
        score=score,
        status=cells["status"],
        group=cells.get("group", ""),
        text=cells.get("text", ""),
        leaks=cells.get("leak") == "True",
        path=Path(path) if path else None,
    )


def by_test(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """Rows of each data set, condition and weights, in the order of the file."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        found.setdefault(row.test, []).append(row)
    return found


def first_condition(rows: Sequence[Row]) -> str:
    """Condition that a report shows at first: scores read from images, if there are any."""
    conditions = {row.condition for row in rows}
    return IMAGE if IMAGE in conditions else min(conditions, default="")
