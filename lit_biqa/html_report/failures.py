"""Section on rows without a score, and on texts that give the score away."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from lit_biqa.evaluation.grids import Grid
from lit_biqa.html_report.page import Section
from lit_biqa.html_report.ratings import by_image, image_row
from lit_biqa.html_report.rows import Row, by_test
from lit_biqa.text import leakage

_SAME = 0.05  # two ratings with one decimal, as texts name them, are equal below this


def failure_section(rows: Sequence[Row]) -> Section:
    """Rows without a score by reason, and texts that name a rating by what they name."""
    grids = [grid for grid in (_failures(rows), _leaks(rows)) if grid.rows]
    lines = [] if grids else ["Every image has a score, and no text names a rating."]
    return Section("Failures and leaks", lines if rows else [], grids)


def _failures(rows: Sequence[Row]) -> Grid:
    grid = Grid(("data set", "condition", "weights", "failure", "examples"), ("rows", "of"))
    for test, group in by_test(rows).items():
        failed = [row for row in group if math.isnan(row.score)]
        counts = Counter(map(_kind, failed))
        for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            names = [row.name for row in failed if _kind(row) == kind][:3]
            grid.rows.append((*test, kind, ", ".join(names), str(count), str(len(group))))
    return grid


def _kind(row: Row) -> str:
    """Reason of a failure without what is of one image alone, such as its file name."""
    return "no finite score" if row.status == "ok" else row.status.partition(":")[0]


def _leaks(rows: Sequence[Row]) -> Grid:
    known = by_image(rows)
    grid = Grid(("data set", "condition", "weights", "leak", "example"), ("rows", "of"))
    for test, group in by_test(rows).items():
        found: dict[str, list[str]] = {}
        for row in group:
            if row.leaks:
                text = known_row.text if (known_row := image_row(row, known)) else ""
                found.setdefault(_leak(text, row.score), []).append(text)
        for kind, texts in sorted(found.items()):
            grid.rows.append((*test, kind, _around(texts[0]), str(len(texts)), str(len(group))))
    return grid


def _leak(text: str, score: float) -> str:
    """Kind of a leak: whether a rating that the text names is that of the second pass."""
    if not (named := leakage.ratings(text)):
        return "names a rating"
    return (
        "names its score" if any(abs(n - score) < _SAME for n in named) else "names another rating"
    )


def _around(text: str, width: int = 60) -> str:
    """Words around the first rating that a text names."""
    where = leakage.first_rating(text)
    if where is None:
        return ""
    start, end = max(0, where[0] - width), where[1] + width
    return f"{'…' * (start > 0)}{text[start:end].strip()}{'…' * (end < len(text))}"
