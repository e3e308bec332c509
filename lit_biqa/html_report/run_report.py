"""The report of a run: `report.html` in its folder, made of the files there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lit_biqa.compat.versions import installed
from lit_biqa.evaluation import tables
from lit_biqa.evaluation.grids import Grid
from lit_biqa.evaluation.report import Result, read_results
from lit_biqa.evaluation.store import read_costs
from lit_biqa.html_report import REPORT, charts, failures, ratings, studies
from lit_biqa.html_report.page import Page, Section, Table, choices_of, data, render
from lit_biqa.html_report.rows import Key, Row, first_condition, read_scored, read_tested
from lit_biqa.html_report.thumbnails import Thumbnail, thumbnails
from lit_biqa.html_report.training import training_sections
from lit_biqa.io.files import as_utf8, replacing
from lit_biqa.types import InputError

LARGEST = 28_000_000
"""Bytes of a page, those of its thumbnails included."""
_FRAME = 1_500_000  # of them, for scripts and sections without pictures
Made = tuple[list[Section], dict[str, Table]]
_WORDS = ("what", "device", "versions", "datasets", "weights")  # columns that are no figures
_VERSIONS = ("lit_biqa", "torch", "lightning", "transformers", "altair")


def write_report(run: Path) -> Path:
    """Draw the report of a run from the files of its folder, and write it there.

    Files that are absent have no section, and images that are absent no thumbnail. The same files
    give the same report, byte by byte.

    Args:
        run: folder of a run that was tested, or has scored images.

    Returns:
        The file, `report.html`.

    Raises:
        InputError: if the folder holds no scores, or a file cannot be read or written.
    """
    if not run.is_dir():
        raise InputError(f"there is no run folder {run}")
    tested, scored = read_tested(run), read_scored(run)
    if not tested and not scored:
        raise InputError(
            f"{run} holds no predictions to report on: run `lit_biqa test --run {run}` first."
        )
    page = render(_page(run, tested, scored))
    with replacing(run / REPORT) as part:
        part.write_text(as_utf8(page), encoding="utf-8")
    return run / REPORT


def _page(run: Path, tested: Sequence[Row], scored: Sequence[Row]) -> Page:
    rows = [*tested, *scored]
    numbers = ratings.numbers_of(rows)
    held: dict[str, Table] = {
        "rows": ratings.score_table(tested, numbers),
        "fits": ratings.fit_table(tested),
        "gaps": ratings.gap_table(tested, numbers),
        "scored": [{"key": numbers[row.key], "score": row.score} for row in scored],
    }
    results, _ = _told("Results", lambda: ([_headline(run)], {}))
    training, curves = _told("Training", lambda: training_sections(run))
    prototypes, _ = _told("Prototypes", lambda: ([studies.prototype_section(run)], {}))
    attention, words = _told("Attention to words", lambda: studies.attention_section(run))
    settings, _ = _told("Settings and costs", lambda: ([_settings(run, tested)], {}))
    held |= curves | words
    budget = (
        LARGEST
        - _FRAME
        - ratings.PICTURES
        - sum(len(data(table).encode()) for table in held.values())
    )
    small = _small(rows, budget)
    sections = [
        *results,
        ratings.scatter_section(tested, small),
        ratings.worst_section(tested),
        ratings.error_section(tested, small),
        ratings.gap_section(held["gaps"]),
        failures.failure_section(tested),
        Section("Scored images", charts=[charts.ranking()] if scored else []),
        *training,
        *prototypes,
        *attention,
        *settings,
    ]
    return Page(
        title=run.resolve().name,
        subtitle="image quality: predicted scores and mean opinion scores (MOS), 1 to 5, 5 best",
        sections=sections,
        tables=held | {"images": ratings.image_table(rows, numbers, small)},
        choices=_choices(tested),
        chosen={"condition": first_condition(tested), "weights": _last_weights(tested)},
    )


def _told(title: str, make: Callable[[], Made]) -> Made:
    """Sections and their tables, or in their place which file is broken: all else is shown."""
    try:
        return make()
    except InputError as error:
        return [Section(title, [f"Not shown: {error}"])], {}


def _small(rows: Sequence[Row], budget: int) -> Mapping[Key, Thumbnail]:
    """Thumbnails of the images, within the page's size less their names."""
    paths = {row.key: row.path for row in rows if row.path is not None}
    names = sum(len(f"{row.name}{row.group}".encode()) + 100 for row in rows)
    return thumbnails(paths, max(0, budget - names))


def _choices(rows: Sequence[Row]) -> dict[str, list[str]]:
    values = {
        "dataset": {row.dataset for row in rows},
        "condition": {row.condition for row in rows},
        "weights": {row.weights for row in rows},
        "group": {row.group for row in rows if row.group},
    }
    return choices_of(values)


def _last_weights(rows: Sequence[Row]) -> str:
    return rows[-1].weights if rows else ""


def _headline(run: Path) -> Section:
    """Table of results, with weights if there are several."""
    file = run / "test" / "results.csv"
    results = read_results(file) if file.is_file() else []
    by_weights: dict[str, list[Result]] = {}
    for result in results:
        by_weights.setdefault(result.weights, []).append(result)
    lines = [note for group in by_weights.values() for note in tables.notes(group)]
    grid = tables.results_grid(results)
    if len(by_weights) > 1:
        named = [
            (*row[: len(grid.names)], result.weights, *row[len(grid.names) :])
            for row, result in zip(grid.rows, results, strict=True)
        ]
        grid = Grid((*grid.names, "weights"), grid.numbers, named)
    return Section("Results", lines, [grid] if results else [])


def _settings(run: Path, tested: Sequence[Row]) -> Section:
    """Settings, digests, versions and costs."""
    grids = [
        _costs(file) for file in (run / "costs.csv", run / "test" / "costs.csv") if file.is_file()
    ]
    config = run / "config.yaml"
    folded = []
    if config.is_file():
        folded.append(("config.yaml", config.read_text(encoding="utf-8", errors="replace")))
    digests = sorted({f"{row.dataset}, weights {row.weights}" for row in tested})
    lines = [f"Drawn with {installed(*_VERSIONS)}.", *(f"Tested: {each}" for each in digests)]
    return Section("Settings and costs", lines, grids, folded=folded)


def _costs(file: Path) -> Grid:
    lines = read_costs(file)
    names = [name for name in lines[0] if name in _WORDS] if lines else []
    numbers = [name for name in lines[0] if name not in names] if lines else []
    rows = [
        (*(line[name] for name in names), *(_rounded(line[name]) for name in numbers))
        for line in lines
    ]
    return Grid(names, [name.replace("_", " ") for name in numbers], rows)


def _rounded(cell: str) -> str:
    """A number with four digits that count; any other cell as it is."""
    try:
        return f"{float(cell):.4g}" if "." in cell else cell
    except ValueError:
        return cell
