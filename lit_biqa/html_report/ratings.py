"""Sections on the ratings of a test: scatter, errors, worst images, image and text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lit_biqa.evaluation.conditions import Condition
from lit_biqa.evaluation.metrics import RESOLUTION, fit_logistic, logistic
from lit_biqa.html_report import charts
from lit_biqa.html_report.page import Example, Section, Table
from lit_biqa.html_report.rows import Key, Row, by_test
from lit_biqa.html_report.thumbnails import SIDES, Thumbnail, thumbnails
from lit_biqa.text.parsing import before_think, tagged, without_answer

WORST = 6
"""Images shown of each kind of error, for each data set and condition."""
MOST_POINTS = 60_000
"""Ratings drawn; of more, evenly spread ones."""
PICTURES = 4_000_000
"""Characters of all pictures beside examples."""
_LONGEST = 1500  # characters of a text beside an example
_POINTS = 60  # of a fitted curve


def rated(rows: Iterable[Row]) -> list[Row]:
    """Rows with a score and a MOS."""
    return [row for row in rows if math.isfinite(row.error)]


def numbers_of(rows: Sequence[Row]) -> dict[Key, int]:
    """A number for each image, in the order of data set, split and index."""
    keys = sorted({row.key for row in rows}, key=lambda key: (key[0], key[1], int(key[2])))
    return {key: number for number, key in enumerate(keys)}


def image_table(
    rows: Sequence[Row], numbers: Mapping[Key, int], small: Mapping[Key, Thumbnail]
) -> Table:
    """Table of the images: name, group, size and thumbnail of each."""
    first: dict[Key, Row] = {}
    for row in rows:
        first.setdefault(row.key, row)
    table = []
    for key, number in numbers.items():
        known = small.get(key, Thumbnail())
        line: dict[str, Any] = {"key": number, "name": first[key].name, "group": first[key].group}
        if known.width:
            line["size"] = f"{known.width} × {known.height}"
            line["megapixels"] = known.width * known.height / 1e6
        if known.uri:
            line["image"] = known.uri
        table.append(line)
    return table


def _line(row: Row, numbers: Mapping[Key, int]) -> dict[str, Any]:
    """Image, test and MOS of a row."""
    test = dict(zip(("dataset", "condition", "weights"), row.test, strict=True))
    return {"key": numbers[row.key], **test, "mos": row.mos}


def score_table(rows: Sequence[Row], numbers: Mapping[Key, int]) -> Table:
    """Score, MOS and error of each rated row, or of `MOST_POINTS` of them."""
    found = rated(rows)
    drawn = found[:: -(-len(found) // MOST_POINTS) or 1]
    return [{**_line(row, numbers), "score": row.score, "error": row.error} for row in drawn]


def fit_table(rows: Sequence[Row]) -> Table:
    """Points of the logistic fitted to each test, where it can be fitted."""
    table = []
    for (dataset, condition, weights), group in by_test(rated(rows)).items():
        x, y = np.array([[row.score, row.mos] for row in group]).T
        if np.ptp(x) <= RESOLUTION or np.ptp(y) <= RESOLUTION:
            continue
        if (beta := fit_logistic(x, y)) is None:
            continue
        grid = np.linspace(x.min(), x.max(), _POINTS)
        names = {"dataset": dataset, "condition": condition, "weights": weights}
        for score, mos in zip(grid.tolist(), logistic(grid, *beta).tolist(), strict=True):
            table.append(names | {"score": score, "mos": mos})
    return table


def scatter_section(rows: Sequence[Row], small: Mapping[Key, Thumbnail]) -> Section:
    """Scores and MOS of all images."""
    if not rated(rows):
        return Section("Each image")
    images = {row.key for row in rows}
    shown = sum(bool(small.get(key, Thumbnail()).uri) for key in images)
    lines = []
    if (count := len(rated(rows))) > MOST_POINTS:
        lines.append(f"Charts draw at most {MOST_POINTS:,} of the {count:,} ratings.")
    if not any(row.path for row in rows):
        lines.append(
            "No image has a thumbnail: test/images.csv, which names the files, is absent. "
            "`lit_biqa test` writes it."
        )
    elif shown < len(images):
        lines.append(
            f"{len(images) - shown} of {len(images)} images have no thumbnail: their files are not "
            "on this disk, cannot be read, or there are too many images for the size of this page."
        )
    sets = len({row.dataset for row in rated(rows)})
    return Section("Each image", lines, charts=[charts.scatter(sets), charts.error_by_mos()])


def error_section(rows: Sequence[Row], small: Mapping[Key, Thumbnail]) -> Section:
    """Errors by group and by size, where images differ in them."""
    drawn = []
    if (groups := len({row.group for row in rated(rows)} - {""})) > 1:
        drawn.append(charts.error_by_group(groups))
    sizes = {(known.width, known.height) for known in small.values() if known.width}
    lines = [f"All images have {w} × {h} pixels." for w, h in sizes] if len(sizes) == 1 else []
    if len(sizes) > 1:
        drawn.append(charts.error_by_size())
    return Section("Errors by group and size", lines, charts=drawn)


@dataclass(frozen=True)
class _Chosen:
    heading: str
    kind: str
    row: Row


def worst_section(rows: Sequence[Row]) -> Section:
    """The images of each test that were rated much too high and much too low."""
    chosen = []
    for group in by_test(rated(rows)).values():
        by_error = sorted(group, key=lambda row: row.error)
        over, under = by_error[: -WORST - 1 : -1], by_error[:WORST]
        chosen += [_Chosen("Rated too high", "over", row) for row in over if row.error > 0]
        chosen += [_Chosen("Rated too low", "under", row) for row in under if row.error < 0]
    pictures = _pictures([each.row for each in chosen])
    examples = [
        (
            heading,
            [
                example_of(each.row, pictures.get(each.row.key, ""), each.kind)
                for each in chosen
                if each.heading == heading
            ],
        )
        for heading in dict.fromkeys(each.heading for each in chosen)
    ]
    return Section("Worst ratings", examples=examples)


def example_of(row: Row, uri: str, kind: str) -> Example:
    """An image with its score, MOS and texts."""
    line = f"score {row.score:.2f}, MOS {row.mos:.2f}, error {row.error:+.2f}".replace("-", "−")
    return Example(uri, row.name, _names(row), [(kind, line)], said(row.text))


def _names(row: Row) -> dict[str, str]:
    return {
        "dataset": row.dataset,
        "condition": row.condition,
        "weights": row.weights,
        "group": row.group,
    }


def _pictures(rows: Sequence[Row]) -> dict[Key, str]:
    """Larger pictures of the images of rows."""
    paths = {row.key: row.path for row in rows if row.path is not None}
    return {key: made.uri for key, made in thumbnails(paths, PICTURES, SIDES[0]).items()}


def said(text: str) -> list[tuple[str, str]]:
    """Parts of what a model wrote: its caption and its reasoning, or all of it.

    Example: ``A sharp photo.<think>Little noise.</think><answer>4</answer>`` gives the caption
    "A sharp photo." and the reasoning "Little noise.".
    """
    parts = {
        "caption": without_answer(before_think(text) or "").strip(),
        "reasoning": (tagged(text, "think") or "").strip(),
    }
    known = [(name, _short(part)) for name, part in parts.items() if part]
    return known or ([("text", _short(text))] if text else [])


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def by_image(rows: Sequence[Row]) -> dict[tuple[Key, str, str], Row]:
    """Rows by image, condition and weights."""
    return {(row.key, row.condition, row.weights): row for row in rows}


def image_row(row: Row, known: Mapping[tuple[Key, str, str], Row]) -> Row | None:
    """The row of the same image and readout that was read from the image."""
    condition = Condition.parse(row.condition)
    if not condition.reads_text:
        return None
    return known.get((row.key, str(condition.image), row.weights))


def gap_table(rows: Sequence[Row], numbers: Mapping[Key, int]) -> Table:
    """Scores of the same image read from it and from a text."""
    known = by_image(rows)
    return [
        {**_line(row, numbers), "seen": seen.score, "read": row.score}
        for row in rated(rows)
        if (seen := image_row(row, known)) and math.isfinite(seen.score)
    ]


def gap_section(pairs: Table) -> Section:
    """Scores read from images and from texts."""
    return Section("Image and text", charts=[charts.gap()] if pairs else [])
