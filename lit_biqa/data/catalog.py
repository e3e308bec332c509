"""Catalogue of data sets: each by name, with its splits as samples with MOS on [1, 5], 5 best."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lit_biqa.data.readers import (
    agiqa3k,
    csiq,
    csv_file,
    kadid10k,
    koniq10k,
    liver2,
    livew,
    pipal,
    spaq,
    synthetic,
    tid2013,
)
from lit_biqa.data.readers.csv_file import ON_MOS, Scale
from lit_biqa.data.readers.disk import descend
from lit_biqa.data.readers.entry import Entry, Label, digest
from lit_biqa.data.splits import PARTS, Split, choose
from lit_biqa.types import InputError, Sample

log = logging.getLogger(__name__)

ENTRIES = (
    koniq10k.ENTRY,
    spaq.ENTRY,
    kadid10k.ENTRY,
    pipal.ENTRY,
    livew.ENTRY,
    agiqa3k.ENTRY,
    csiq.ENTRY,
    tid2013.ENTRY,
    liver2.ENTRY,
    synthetic.ENTRY,
)
NAMES = tuple(entry.name for entry in ENTRIES)
CONVERSATIONS = "conversations"
"""Name of the data set made from a user's file of conversations (`lit_biqa.data.feedbacks`)."""

Missing = Literal["error", "skip", "keep"]
Labels = Literal["whole", "partial"]

SPEC = re.compile(r"(?P<name>.+\.csv|[^/:]+)(?:/(?P<split>[^/:]+))?(?::(?P<part>[^/:]+))?")


def find(name: str) -> Entry:
    """Entry of the data set called ``name``.

    Raises:
        InputError: if there is none; suggests the nearest names.
    """
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    near = difflib.get_close_matches(name.lower(), (*NAMES, CONVERSATIONS), n=3, cutoff=0.4)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    raise InputError(f"no data set is called {name!r}.{meant} Data sets: {', '.join(NAMES)}.")


def entry_of(name: str, root: Path, scale: Scale = ON_MOS) -> tuple[Entry, Path]:
    """Entry of a data set, and the folder to search.

    The folder is ``root``, or for the path of a CSV the folder of the CSV.

    Args:
        name: of the catalogue, or the path of a CSV.
        root: folder under which the data sets lie.
        scale: worst and best score in a CSV.

    Raises:
        InputError: if there is no such data set or CSV.
    """
    if name.endswith(".csv"):
        return csv_file.entry(Path(name), scale), Path(name).parent
    return find(name), root


def load_split(
    spec: str,
    part: str,
    root: str | Path,
    missing: Missing = "error",
    wanted: Labels = "whole",
    scale: Scale = ON_MOS,
) -> Split:
    """Samples of one part of a split.

    Args:
        spec: ``NAME[/SPLIT[:PART]]`` such as ``koniq10k/paper3015``, where NAME may be the path
            of a CSV of one's own (`lit_biqa.data.readers.csv_file`), and SPLIT may end in the size
            of the images to read, as in ``koniq10k/paper3015-512x384``.
        part: ``train``, ``val`` or ``test``; a part named in the spec goes before it.
        root: folder under which the data sets lie; for ``synthetic`` also the set's own folder.
        missing: labelled images that are absent are an error, are left out, or are kept with the
            path where they would be, for runs that read no image.
        wanted: ``partial`` accepts label files with missing rows or changed scores, with a
            warning.
        scale: worst and best score in a user's CSV.

    Raises:
        InputError: if the spec, the label file or the images are wrong.
    """
    name, split, part = parse(spec, part)
    entry, root = entry_of(name, Path(root), scale)
    named, folder = split or entry.split, entry.folder(root)
    entry, split = entry.at(named)
    labels = entry.labels(folder, partial=wanted == "partial")
    if wanted == "partial" and (faults := entry.faults(labels)):
        log.warning("%s: %s (data.sets.labels: partial)", entry.name, faults[0])
    rows = choose(entry, labels, split, part, root)
    if not rows:
        raise InputError(f"{entry.name}/{split}:{part} has no image. Choose another split.")
    # Looked up over all labels, so that every part takes its images from the same folder.
    paths = locate(entry, folder, labels)
    if missing == "keep":
        paths = [path or folder / label.name for path, label in zip(paths, labels, strict=True)]
    else:
        _tell_size(entry, folder, named, paths)
    present = {row: path for row in rows if (path := paths[row]) is not None}
    absent = [labels[row].name for row in rows if row not in present]
    if absent and (missing == "error" or not present):
        raise _absence(f"{entry.name}/{named}:{part}", entry, folder, absent, len(rows))
    return _split(entry, labels, present, named, part, len(absent))


def parse(spec: str, part: str) -> tuple[str, str, str]:
    """Name, split (empty for the default) and part of a spec.

    Raises:
        InputError: if the spec is not of the form ``NAME[/SPLIT[:PART]]``.
    """
    match = SPEC.fullmatch(spec.strip())
    if match is None or (match["part"] or part) not in PARTS:
        raise InputError(
            f"{spec!r} is no data set: expected NAME, NAME/SPLIT or NAME/SPLIT:PART, with "
            f"{', '.join(PARTS)} as PART and a catalogue name or the path of a .csv as NAME."
        )
    return match["name"], match["split"] or "", match["part"] or part


def locate(entry: Entry, folder: Path, labels: list[Label]) -> list[Path | None]:
    """Path of the image of each label; None if it is absent."""
    finder = entry.finder(folder, labels)
    return [finder.find(label.file or label.name) for label in labels]


def _tell_size(entry: Entry, folder: Path, split: str, paths: Sequence[Path | None]) -> None:
    """Warn which size is read where a data set lies there in several and the split names none."""
    sizes = [size for size in entry.versions if descend(folder, size)]
    read = next((path.parent.name for path in paths if path), "")
    if len(sizes) > 1 and read:
        log.warning(
            "%s: its images of %s are read, and %s lie there, too; name the size, as in %s/%s-%s",
            *(entry.name, read, " and ".join(size for size in sizes if size != read)),
            *(entry.name, split, sizes[-1]),
        )


def _absence(spec: str, entry: Entry, folder: Path, absent: list[str], total: int) -> InputError:
    versions = " or ".join(", ".join(version) for version in entry.images)
    more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
    return InputError(
        f"{spec}: {len(absent)} of {total} images are not under {folder} (looked in {versions}): "
        f"{', '.join(absent[:5])}{more}. Obtain them at {entry.source}, or set "
        "data.images.missing=skip to continue without them."
    )


def _split(
    entry: Entry, labels: list[Label], present: dict[int, Path], split: str, part: str, skipped: int
) -> Split:
    scores = {row: entry.mos(labels[row]) for row in present}
    mark = digest((labels[row].name, mos) for row, (mos, _) in scores.items())
    samples = [
        Sample(
            dataset=entry.name,
            split=f"{split}@{mark}",
            index=row,
            name=labels[row].name,
            path=path,
            mos=scores[row][0],
            std=scores[row][1],
            groups=labels[row].groups,
            texts=labels[row].texts,
            degradation=labels[row].degradation,
        )
        for row, path in present.items()
    ]
    return Split(entry.name, split, part, samples, mark, skipped)
