"""Check unpacked data sets: labels, images, and where to obtain what is missing.

    lit_biqa prepare --root data koniq10k agiqa3k
    lit_biqa prepare --root data --decode livew

Without names it looks for every public data set of the catalogue. With names the exit status is 1
if one of them is incomplete. It downloads and writes nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from lit_biqa.data.catalog import ENTRIES, NAMES, entry_of, locate
from lit_biqa.data.images import UnreadableImage, open_image
from lit_biqa.data.readers.entry import Entry, Label, digest
from lit_biqa.data.splits import choose
from lit_biqa.limits import IMAGE_RATIO
from lit_biqa.progress import track
from lit_biqa.types import InputError

COLUMNS = ("data set", "labels", "label digest", "default split", "images", "unreadable")
WIDTH = 150  # of the table if the output is no terminal


@dataclass(frozen=True)
class Finding:
    """One row of the table.

    Attributes:
        name: name of the data set.
        cells: one text per column after the first.
        faults: faults of the data set; it is ready if there are none.
        source: where to obtain it.
    """

    name: str
    cells: tuple[str, ...]
    faults: list[str]
    source: str


def check(name: str, root: Path, decode: bool) -> Finding:
    """Compare the data set called ``name`` under ``root`` with the catalogue.

    Args:
        name: catalogue name, or the path of a CSV.
        root: folder under which data sets lie.
        decode: true to open every image too.

    Raises:
        InputError: if there is no such data set.
    """
    entry, root = entry_of(name, root)
    try:
        folder = entry.folder(root)
        labels = entry.labels(folder, partial=True)
        scores = {label.name: entry.mos(label)[0] for label in labels}
    except InputError as error:
        return Finding(name, ("",) * 5, [str(error)], entry.source)
    rows = entry.counted(labels)
    faults = entry.faults(labels)
    mark = digest(scores.items())
    paths = locate(entry, folder, labels)
    verdict = _verdict(entry, labels, mark, faults)
    absent = [labels[row].name for row in rows if paths[row] is None]
    more = " ..." if len(absent) > 3 else ""
    faults += [f"{len(absent)} images missing: {', '.join(absent[:3])}{more}"] if absent else []
    broken = _broken([path for row in rows if (path := paths[row])], entry.name) if decode else []
    faults += broken[:3] + ([f"{len(broken) - 3} more unreadable"] if len(broken) > 3 else [])
    cells = (
        f"{len(rows)}" + (f" of {entry.count}" if entry.count else ""),
        f"{mark} {verdict}",
        _split_digest(entry, labels, scores, root),
        f"{len(rows) - len(absent)} of {len(rows)}",
        str(len(broken)) if decode else "-",
    )
    return Finding(name, cells, faults, entry.source)


def _verdict(entry: Entry, labels: list[Label], mark: str, faults: list[str]) -> str:
    """Verdict on labels: whether they are those that the authors published, if it is known."""
    if faults:
        return "differs"
    if entry.derived_digest:
        like = "as" if mark == entry.derived_digest else "differs from"
        return f"{like} lists derived from the authors'"
    if not entry.digest or entry.unmeasured(labels):
        return "not compared"
    return "ok"


def _split_digest(entry: Entry, labels: list[Label], scores: dict[str, float], root: Path) -> str:
    """Test part of the default split (of PIPAL, which has none, the validation part)."""
    part = (
        "val" if entry.split in entry.parts and "test" not in entry.parts[entry.split] else "test"
    )
    try:
        names = [labels[row].name for row in choose(entry, labels, entry.split, part, root)]
    except InputError as error:
        return str(error)
    return f"{entry.split}:{part} {len(names)} @{digest((n, scores[n]) for n in names)}"


def _broken(paths: list[Path], name: str) -> list[str]:
    faults = []
    for path in track(paths, f"decoding {name}"):
        try:
            image = open_image(path)
        except UnreadableImage as error:
            faults.append(str(error))
            continue
        if max(image.size) > IMAGE_RATIO * min(image.size):
            size = f"{image.width} x {image.height}"
            faults.append(f"{path}: {size} pixels are too narrow for Qwen2.5-VL")
    return faults


def table(findings: Sequence[Finding]) -> Table:
    """Table of all findings."""
    drawn = Table(*COLUMNS, Column("verdict, and where to obtain it", overflow="fold"))
    for finding in findings:
        verdict = [*(finding.faults or ["complete"]), finding.source]
        cells = (finding.name, *finding.cells, "\n".join(verdict))
        drawn.add_row(*(Text(cell) for cell in cells), end_section=True)
    return drawn


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the exit status is 1 if a named data set is incomplete, 2 if unknown."""
    parser = argparse.ArgumentParser(
        prog="lit_biqa prepare", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}, or a .csv")
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder of the data sets")
    parser.add_argument("--decode", action="store_true", help="open every image (minutes)")
    options = parser.parse_args(arguments)
    # The synthetic set, which has no count of its own, is made and not obtained.
    names = options.names or [entry.name for entry in ENTRIES if entry.count]
    try:
        findings = [check(name, options.root, options.decode) for name in names]
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    console = Console()
    console = console if console.is_terminal else Console(width=WIDTH)
    console.print(table(findings))
    return int(bool(options.names) and any(finding.faults for finding in findings))
