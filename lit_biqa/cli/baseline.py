"""Print the correlation that the group means of the training part alone reach on the test part.

    lit_biqa baseline --root data
    lit_biqa baseline agiqa3k/random-0 kadid10k --root data

Each test image gets the mean training MOS of its group, such as its generator or its reference; no
image is opened. A score from images says little unless it exceeds this. A data set without a split
is split by random-0. Without names it takes every data set that has groups and lies under the root.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from lit_biqa.data.catalog import ENTRIES, entry_of, load_split, parse
from lit_biqa.data.group_means import GroupMeans, group_means
from lit_biqa.evaluation.tables import rendered
from lit_biqa.types import InputError, Sample

SPLIT = "random-0"
COLUMNS = ("data set", "groups by", "groups", "images", "PLCC", "SRCC")
Row = tuple[str, ...]


def rows_of(spec: str, root: Path) -> list[Row]:
    """Row of each kind of groups of one data set; none for a data set without groups.

    Args:
        spec: ``NAME[/SPLIT[:PART]]``; the test part unless another is named.
        root: folder under which data sets lie.

    Raises:
        InputError: if the data set, its labels or the split is wrong.
    """
    name, split, part = parse(spec, "test")
    entry, _ = entry_of(name, root)
    train, test = (_rated(f"{name}/{split or SPLIT}", each, root) for each in ("train", part))
    title = f"{entry.name}/{split or SPLIT}" + f":{part}" * (part != "test")
    return [(title, kind, *_cells(group_means(train, test, kind))) for kind in entry.groups]


def _rated(spec: str, part: str, root: Path) -> list[Sample]:
    samples = load_split(spec, part, root, missing="keep", wanted="partial").samples
    return [sample for sample in samples if math.isfinite(sample.mos)]


def _cells(baseline: GroupMeans) -> Row:
    unseen = f", {baseline.unseen} unseen" if baseline.unseen else ""
    figures = [
        "-" if math.isnan(value) else f"{value:.4f}" for value in (baseline.plcc, baseline.srcc)
    ]
    return f"{baseline.groups}{unseen}", str(baseline.images), *figures


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table, with a note on groups that are not in training."""
    from rich import box
    from rich.table import Table

    grid = Table(box=box.MARKDOWN)
    for column in COLUMNS:
        grid.add_column(column, justify="left" if column in COLUMNS[:2] else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    constant = any(row[-1] == "-" for row in rows)
    note = "-: no test group is in training, so every score is the mean training MOS: a constant"
    return "\n".join([rendered(grid).strip("\n"), *[note] * constant])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the exit status is 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="lit_biqa baseline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "specs", nargs="*", metavar="NAME[/SPLIT[:PART]]", help="or the path of a .csv"
    )
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder of the data sets")
    options = parser.parse_args(arguments)
    try:
        rows = [row for spec in options.specs for row in _named(spec, options.root)]
        print(table(rows or _every(options.root)))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _named(spec: str, root: Path) -> list[Row]:
    rows = rows_of(spec, root)
    if not rows:
        having = ", ".join(entry.name for entry in ENTRIES if entry.groups)
        raise InputError(f"{spec}: its images belong to no groups. Data sets with groups: {having}")
    return rows


def _every(root: Path) -> list[Row]:
    """Rows of all data sets that have groups and are on disk; names the others on stderr."""
    rows: list[Row] = []
    for entry in ENTRIES:
        try:
            rows += rows_of(entry.name, root) if entry.groups else []
        except InputError as error:
            print(f"{entry.name} is left out: {error}", file=sys.stderr)
    if not rows:
        raise InputError(f"no data set with groups lies under {root}; name their folder by --root")
    return rows
