"""The report of a comparison: runs side by side, and the images on which they disagree most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_biqa.evaluation.compared import Comparison, Line, full_grid, has_clusters, score_grid
from lit_biqa.evaluation.comparison import Run, differing, names_of
from lit_biqa.evaluation.grids import Grid
from lit_biqa.evaluation.report import MEAN
from lit_biqa.html_report import charts
from lit_biqa.html_report.page import Example, Page, Section, Table, choices_of, render
from lit_biqa.html_report.ratings import image_table, numbers_of, rated, said
from lit_biqa.html_report.rows import Key, Row, first_condition, read_tested
from lit_biqa.html_report.thumbnails import SIDES, thumbnails
from lit_biqa.io.files import as_utf8, replacing

SHOWN = 12
"""Images shown of each run, those on which it disagrees most with the first."""
_PICTURES = 4_000_000  # characters of all pictures beside examples
_THUMBNAILS = 10_000_000  # characters of all thumbnails
_MOST = 30_000  # pairs of ratings drawn
_POINTED = 1000  # images with a thumbnail, those with the largest disagreement


@dataclass(frozen=True)
class Pair:
    """Two ratings of one image under one condition.

    Attributes:
        run: name of the other run.
        first: row of the first run.
        other: row of the other run.
    """

    run: str
    first: Row
    other: Row

    @property
    def apart(self) -> float:
        """Distance between the two scores."""
        return abs(self.first.score - self.other.score)


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Draw the report of a comparison from the files of its runs, and write it.

    Args:
        path: file to write.
        comparison: the runs compared.

    Raises:
        InputError: if a file cannot be read or written.
    """
    page = render(_page(comparison))
    with replacing(path) as part:
        part.write_text(as_utf8(page), encoding="utf-8")


def _page(comparison: Comparison) -> Page:
    runs, names = comparison.runs, names_of(comparison.runs)
    found = sorted(_pairs(runs, names), key=lambda pair: -pair.apart)
    pairs = found[:_MOST]
    rows = [pair.first for pair in pairs]
    numbers = numbers_of(rows)
    small = thumbnails(dict(list(_paths(pairs).items())[:_POINTED]), _THUMBNAILS)
    lines = comparison.differences
    drawn = [charts.differences(len(lines))] if lines else []
    if pairs:
        drawn.append(charts.disagreement())
    notes = _notes(comparison, len(found))
    test, sized = _sized(comparison)
    sections = [
        Section("Results", grids=[score_grid(runs)], charts=[charts.sizes(test)] if sized else []),
        Section(f"Differences from {names[0]}", notes, _grids(lines), drawn),
        Section("Largest disagreements", examples=_examples(pairs, names)),
        Section("Settings that differ", grids=_settings(runs)),
    ]
    tables = {
        "sizes": sized,
        "differences": _difference_table(lines),
        "pairs": _pair_table(pairs, numbers),
        "images": image_table(rows, numbers, small),
    }
    return Page(
        title="Comparison",
        subtitle=", ".join(names),
        sections=sections,
        tables=tables,
        choices=_choices(pairs),
        chosen={"condition": first_condition(rows)},
    )


def _sized(comparison: Comparison) -> tuple[str, Table]:
    """Mean of the runs, or else their first test, and their correlations beside their sizes.

    Nothing where all have one size.
    """
    sizes = dict(zip(names_of(comparison.runs), comparison.runs, strict=True))
    lines = [line for line in comparison.scores if sizes[line.run].parameters]
    if len({sizes[line.run].parameters for line in lines}) < 2:
        return "", []
    tests = [line.test for line in lines]
    test = MEAN if MEAN in tests else tests[0]
    return test, [
        {
            "run": line.run,
            "metric": line.metric.upper(),
            "value": line.change.value,
            "parameters": sizes[line.run].parameters,
        }
        for line in lines
        if line.test == test
    ]


def _pairs(runs: Sequence[Run], names: Sequence[str]) -> list[Pair]:
    """Images that the first run and another have rated, for each of the others."""
    first, *others = (_rows(run) for run in runs)
    return [
        Pair(name, first[where], row)
        for name, found in zip(names[1:], others, strict=True)
        for where, row in found.items()
        if where in first
    ]


def _rows(run: Run) -> dict[tuple[Key, str, str], Row]:
    rows = (row for row in rated(read_tested(run.folder)) if row.weights == run.weights)
    return {(row.key, row.name, row.condition): row for row in rows}


def _paths(pairs: Sequence[Pair]) -> dict[Key, Path]:
    """Files of the images, where either run knows them, in the order of the pairs."""
    known = ((pair.first.key, pair.first.path or pair.other.path) for pair in pairs)
    return {key: path for key, path in known if path is not None}


def _examples(pairs: Sequence[Pair], names: Sequence[str]) -> list[tuple[str, list[Example]]]:
    first, *others = names
    chosen = {name: [pair for pair in pairs if pair.run == name][:SHOWN] for name in others}
    shown = [pair for found in chosen.values() for pair in found]
    made = thumbnails(_paths(shown), _PICTURES, SIDES[0])
    uris = {pair.first.key: "" for pair in shown} | {key: each.uri for key, each in made.items()}
    return [
        (f"{first} and {name}", [_example(pair, first, uris[pair.first.key]) for pair in found])
        for name, found in chosen.items()
        if found
    ]


def _example(pair: Pair, first: str, uri: str) -> Example:
    row = pair.first
    of = {
        "dataset": row.dataset,
        "condition": row.condition,
        "run": pair.run,
        "group": row.group,
    }
    lines = [("name", f"MOS {row.mos:.2f}")]
    texts = []
    for name, each in ((first, row), (pair.run, pair.other)):
        kind = "over" if each.error > 0 else "under"
        lines.append((kind, f"{name}: {each.score:.2f}, error {each.error:+.2f}"))
        texts += [(f"{name}, {part}", text) for part, text in said(each.text)]
    return Example(uri, row.name, of, lines, texts)


def _difference_table(lines: Sequence[Line]) -> Table:
    several = len({line.run for line in lines}) > 1
    return [
        {
            "label": f"{line.metric.upper()} on {line.test}" + f", {line.run}" * several,
            "n": line.n,
            "value": line.change.value,
            "low": line.change.low,
            "high": line.change.high,
            "p": line.change.p,
        }
        for line in lines
        if math.isfinite(line.change.value)
    ]


def _pair_table(pairs: Sequence[Pair], numbers: Mapping[Key, int]) -> Table:
    return [
        {
            "key": numbers[pair.first.key],
            "dataset": pair.first.dataset,
            "condition": pair.first.condition,
            "run": pair.run,
            "mos": pair.first.mos,
            "first": pair.first.error,
            "other": pair.other.error,
        }
        for pair in pairs
    ]


def _grids(lines: Sequence[Line]) -> list[Grid]:
    return [full_grid(lines, "difference", has_clusters(lines))] if lines else []


def _notes(comparison: Comparison, found: int) -> list[str]:
    notes = []
    if comparison.differences:
        notes.append(
            "Over the images that both rated: 95% intervals of a paired bootstrap, and p of a test "
            "of exchanges with Holm's correction over the data sets, "
            f"{comparison.resamples} resamples."
        )
    if found > _MOST:
        notes.append(f"Drawn: the {_MOST:,} pairs of {found:,} with the largest disagreement.")
    return notes


def _settings(runs: Sequence[Run]) -> list[Grid]:
    """Settings that differ, a column for each run folder that has settings."""
    known = {run.folder: run for run in runs if (run.folder / "config.yaml").is_file()}
    once = list(known.values())
    names = differing(once)
    rows = [(name, *(str(run.settings.get(name, "")) for run in once)) for name in names]
    return [Grid(("setting", *names_of(once)), (), rows)] if rows else []


def _choices(pairs: Sequence[Pair]) -> dict[str, list[str]]:
    values = {
        "dataset": {pair.first.dataset for pair in pairs},
        "condition": {pair.first.condition for pair in pairs},
        "run": {pair.run for pair in pairs},
        "group": {pair.first.group for pair in pairs if pair.first.group},
    }
    return choices_of(values)
