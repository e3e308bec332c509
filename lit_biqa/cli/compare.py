"""Compare tested runs: scores, gaps between image and text, differences on the same images.

    lit_biqa compare runs/quickstart runs/quickstart_no_pca
    lit_biqa compare runs/* --settings --csv compared.csv
    lit_biqa compare runs/* --format latex --report compared.html
    lit_biqa compare runs/rali_seed* --mean-over seed
    lit_biqa compare runs/* --expected configs/reproduce/pure_textual_reasoning/expected.csv

Scores come from each run's ``test/results.csv``, gaps and differences from
``test/predictions.csv`` on the images that both scored, settings from ``config.yaml``. A run that
was tested with several weights has one line for each. Predictions of others are a run, too, once
they have been tested: ``lit_biqa test --model Predictions --model.path theirs.csv --run theirs``.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lit_biqa.cli.compare_arguments import check_options, parsed
from lit_biqa.cli.printed_values import compared, printed_grid, read_printed, summary
from lit_biqa.cli.report import draw_comparison
from lit_biqa.evaluation.compared import (
    Comparison,
    Line,
    compact_grid,
    compare,
    full_grid,
    has_clusters,
    labelled,
    score_grid,
)
from lit_biqa.evaluation.comparison import (
    Difference,
    Run,
    Test,
    differing,
    names_of,
    read_runs,
)
from lit_biqa.evaluation.grids import Format, Grid
from lit_biqa.evaluation.hyperparameters import Setting
from lit_biqa.evaluation.repeats import repeat_grid, repeated_runs
from lit_biqa.evaluation.report import write_csv
from lit_biqa.evaluation.tables import needed_width, rendered, side_by_side
from lit_biqa.html_report import REPORT
from lit_biqa.types import InputError

WIDTH = 150  # of a table if the output is no terminal


def printed(lines: Sequence[Line], what: str, head: str, width: int, form: Format) -> list[str]:
    """A table of gaps or differences below its head; nothing without lines."""
    if not lines:
        return []
    if form == "latex":
        return [full_grid(lines, what, has_clusters(lines)).latex()]
    grid = compact_grid(lines, what).rich()
    if needed_width(grid) > width:
        grid = compact_grid(lines, what, "\n").rich()
    return [textwrap.fill(head, width), rendered(grid, width)]


def tables(comparison: Comparison, width: int, form: Format) -> Iterator[str]:
    """Scores, gaps between image and text, and differences from the first run.

    Args:
        comparison: the runs compared.
        width: of a line in characters.
        form: format of the tables; as CSV they are one.
    """
    runs, resamples = comparison.runs, comparison.resamples
    parts = {
        "score": comparison.scores,
        "gap": comparison.gaps,
        "difference": comparison.differences,
    }
    if form == "csv":
        clusters = any(map(has_clusters, parts.values()))
        grids = {what: full_grid(lines, "value", clusters) for what, lines in parts.items()}
        whole = Grid(("what", *grids["score"].names), grids["score"].numbers)
        whole.rows += [(what, *row) for what, grid in grids.items() for row in grid.rows]
        yield whole.csv()
        return
    scores = score_grid(runs)
    yield scores.latex() if form == "latex" else rendered(scores.rich(), width)
    drawn = f"paired bootstrap and test of exchanges, {resamples} resamples"
    if any(has_clusters(parts[what]) for what in ("gap", "difference")):
        drawn += "; clusters: the bootstrap resamples groups of images, not images"
    head = f"Gap between image and text: {drawn}" if resamples else "Gap between image and text"
    yield from printed(parts["gap"], "gap", head, width, form)
    head = f"Difference from {names_of(runs)[0]} on the same images, with its 95% interval and p "
    head += f"(Holm's correction over the data sets): {drawn}"
    yield from printed(parts["difference"], "difference", head, width, form)
    if form == "markdown" and resamples and (notes := list(_notes(runs, comparison.changes))):
        yield "\n".join(textwrap.fill(note, width) for note in notes)


def _notes(runs: Sequence[Run], compared: Sequence[Mapping[Test, Difference]]) -> Iterator[str]:
    """Notes on images and runs that the table of differences leaves out, and why."""
    first, *others = names_of(runs)
    tests = labelled(runs)
    for name, run, changes in zip(others, runs[1:], compared, strict=True):
        for test, change in changes.items():
            if change.left_out:
                yield (
                    f"images of {tests[test]} left out, since {first} and {name} did not both "
                    f"score them: {change.left_out}"
                )
            if change.other_mos:
                yield (
                    f"images of {tests[test]} with another MOS in {name} than in {first}, which "
                    f"counts here: {change.other_mos}"
                )
        if not changes:
            yield f"no difference of {name} from {first}: {_lacking(runs[0], run)}"


def _lacking(baseline: Run, run: Run) -> str:
    for tested_run in (baseline, run):
        if not tested_run.scores:
            return f"no predictions in {tested_run.folder / 'test' / 'predictions.csv'}"
    return "fewer than 3 images that both scored under the same split and condition"


def settings_text(runs: Sequence[Run], width: int) -> Iterator[str]:
    """Settings in which the runs differ, runs as columns or as rows, whichever needs less room."""
    once = list({run.folder: run for run in runs}.values())
    names = differing(once)
    if not names:
        yield "The runs have the same settings."
        return
    lines = [["setting", *names_of(once)]]
    for name, short in zip(names, shortened(names), strict=True):
        lines.append([short, *(_shown(run.settings.get(name, "")) for run in once)])
    lines = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    columns = [list(column) for column in zip(*lines, strict=True)]
    lines[0][0] = "run"
    layouts = (side_by_side(columns, width), side_by_side(lines, width))
    for grid in min(layouts, key=len):
        yield rendered(grid, width)


def shortened(names: Sequence[str]) -> list[str]:
    """Shortest unique end of each dotted name."""
    short = []
    for name in names:
        parts = name.split(".")
        others = [f".{other}" for other in names if other != name]
        ends = [".".join(parts[i:]) for i in reversed(range(len(parts)))]
        unique = [end for end in ends if not any(other.endswith(f".{end}") for other in others)]
        short.append(unique[0] if unique else name)
    return short


def _shown(setting: Setting) -> str:
    return "none" if setting is None else str(setting)


def save(path: Path, runs: Sequence[Run]) -> None:
    """Write one CSV line per run: parameters, differing settings by their full names, scores.

    Raises:
        InputError: if the file cannot be written.
    """
    names, tests = differing(runs), labelled(runs)
    scores = [(test, metric) for test in tests for metric in ("plcc", "srcc")]
    lines: list[list[object]] = []
    for run in runs:
        line: list[object] = [str(run.folder), run.weights, run.parameters or ""]
        line += [_shown(run.settings.get(name, "")) for name in names]
        for test, metric in scores:
            result = run.results.get(test)
            line.append("" if result is None else getattr(result.correlations, metric))
        lines.append(line)
    columns = [f"{tests[test]}/{metric}" for test, metric in scores]
    header = ["run", "weights", "parameters", *names, *columns]
    write_csv(path, header, lines)


def expected(file: Path, runs: Sequence[Run], width: int, form: Format) -> list[str]:
    """Tables of the values that a paper prints, beside those of the runs.

    Raises:
        InputError: if the file is wrong, or none of its rows belongs to a run.
    """
    values = read_printed(file)
    recipes = sorted({value.recipe for value in values} - {""})
    if not {run.folder.resolve().name for run in runs} & set(recipes):
        raise InputError(
            f"{file}: no row is that of a run; the folder of a run is called as the row's recipe: "
            + ", ".join(recipes)
        )
    found = compared(values, runs)
    grid = printed_grid(found, whole=form == "csv")
    if form != "markdown":
        return [grid.csv() if form == "csv" else grid.latex()]
    return [rendered(grid.rich(), width), textwrap.fill(summary(found), width)]


def means(runs: Sequence[Run], over: Sequence[str], width: int, form: Format) -> list[str]:
    """Mean and standard deviation of the scores of runs that repeat one another.

    Args:
        runs: tested runs.
        over: settings that repeats differ in.
        width: of a line in characters.
        form: format of the table.

    Raises:
        InputError: if no run repeats another, or runs do not differ at all.
    """
    groups = repeated_runs(runs, over)
    if len(groups) == len(runs):
        raise InputError(
            f"no two runs have all settings but {', '.join(over)} in common; --settings without "
            "--mean-over prints those that differ, and --mean-over NAME can be repeated"
        )
    grid = repeat_grid(groups)
    if form != "markdown":
        return [grid.csv() if form == "csv" else grid.latex()]
    head = (
        f"Mean and standard deviation (sd, of a sample) over runs that differ in {', '.join(over)}"
    )
    return [textwrap.fill(head, width), rendered(grid.rich(), width)]


def tested(folders: Sequence[Path]) -> list[Run]:
    """Runs in the folders that hold results, each folder once; others are named on stderr.

    Raises:
        InputError: if no folder holds results.
    """
    once: dict[Path, Path] = {}
    for folder in folders:
        if folder.name == REPORT:  # lies beside the runs, so that RUNS/* names it
            continue
        once.setdefault(folder.resolve(), folder)
    runs: list[Run] = []
    for folder in once.values():
        new = read_runs(folder)
        if not new:
            print(f"{folder}: no test/results.csv, left out", file=sys.stderr)
        runs += new
    if not runs:
        raise InputError("none of these folders holds results: run `lit_biqa test --run FOLDER`")
    return runs


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; the exit status is 2 for bad input, or a named file that is not written."""
    options = parsed(arguments, (__doc__ or "").partition("\n")[0])
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    try:
        if options.csv is not None and options.csv.exists():
            raise InputError(
                f"{options.csv} exists and is not replaced: name a new file for --csv."
            )
        check_options(options)
        if options.baseline and not read_runs(options.baseline):
            raise InputError(f"{options.baseline}, the baseline, has no test/results.csv")
        runs = tested([*([options.baseline] if options.baseline else []), *options.runs])
        comparison: Comparison | None = None
        if options.expected is not None:
            texts = expected(options.expected, runs, width, options.format)
        elif options.mean_over:
            texts = means(runs, options.mean_over, width, options.format)
        else:
            comparison = compare(runs, options.resamples)
            texts = list(tables(comparison, width, options.format))
        if options.settings:
            texts += settings_text(runs, width)
        print("\n\n".join(text.strip("\n") for text in texts))
        if options.csv is not None:
            save(options.csv, runs)
            print(f"\nwritten: {options.csv}")
        if comparison is not None:
            drawn = draw_comparison(comparison, options.report)
            return 0 if drawn or options.report is None else 2
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
