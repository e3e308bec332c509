"""Sections on a fit: curves and sampled completions, from the run's TensorBoard events."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_biqa.evaluation.events import event_logs, scalars
from lit_biqa.evaluation.grids import Grid
from lit_biqa.html_report import charts
from lit_biqa.html_report.page import Section, Table

_REWARDS = ("train/reward", "val/reward")
_PROGRESS = ("train/loss", "val/srcc", "val/plcc")
_ROLLOUTS = "rollouts/text_summary"
_POINTS = 400  # of a curve
_STEPS = 4  # whose completions are shown
_SHOWN = 4  # completions of a step


def training_sections(run: Path) -> tuple[list[Section], dict[str, Table]]:
    """Curves and completions of a fit, and the tables of the curves.

    Empty without events, as after a test alone.
    """
    logs = list(event_logs(run))
    rewards = _curves(logs, _REWARDS)
    progress = _curves(logs, _PROGRESS)
    drawn = []
    if progress:
        drawn.append(charts.curves("progress", "Loss and validation"))
    if rewards:
        note = "Mean rewards of a step: each part without its weight, and the weighted sum of all."
        drawn.append(charts.curves("rewards", "Rewards", note))
    grid = _completions(logs)
    sections = [
        Section("Training", charts=drawn),
        Section("Completions during training", grids=[grid] if grid.rows else []),
    ]
    return sections, {"progress": progress, "rewards": rewards}


def _curves(logs: Sequence[Any], begins: tuple[str, ...]) -> Table:
    """Values of all tags that begin so, by tag and step."""
    tags = {tag for log in logs for tag in log.Tags()["scalars"] if tag.startswith(begins)}
    values = {tag: scalars(logs, tag) for tag in sorted(tags)}
    return [
        {"tag": tag, "step": step, "value": found[step]}
        for tag, found in values.items()
        for step in _spread(sorted(found), _POINTS)
    ]


def _spread(steps: Sequence[int], most: int) -> list[int]:
    """At most so many steps, evenly spread, with the first and the last."""
    if len(steps) <= most:
        return list(steps)
    places = sorted({round(i * (len(steps) - 1) / (most - 1)) for i in range(most)})
    return [steps[place] for place in places]


def _completions(logs: Sequence[Any]) -> Grid:
    """The first completions of some steps, from the tables that `RolloutTable` has logged."""
    texts: dict[int, str] = {}
    for log in logs:
        if _ROLLOUTS in log.Tags()["tensors"]:
            for event in log.Tensors(_ROLLOUTS):
                texts[event.step] = event.tensor_proto.string_val[0].decode("utf-8", "replace")
    rows = [
        {"step": str(step)} | row
        for step in _spread(sorted(texts), _STEPS)
        for row in read_table(texts[step])[:_SHOWN]
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    names = [name for name in ("step", "image", "said", "second pass") if name in columns]
    numbers = [name for name in columns if name not in names]
    return Grid(names, numbers, [tuple(row.get(n, "") for n in (*names, *numbers)) for row in rows])


def read_table(markdown: str) -> list[dict[str, str]]:
    """Rows of a table that `lit_biqa.callbacks.rollout_table.markdown` has written.

    Example: ``image | said``, a rule, and ``koniq10k 3 | a &lt;b&gt;`` -> one row,
    ``{"image": "koniq10k 3", "said": "a <b>"}``.
    """
    lines = [line.split(" | ") for line in markdown.splitlines()]
    if len(lines) < 3:
        return []
    header, _, *rows = lines
    cells = [[html.unescape(cell.replace("<br>", "\n")) for cell in row] for row in rows]
    return [dict(zip(header, row, strict=True)) for row in cells if len(row) == len(header)]
