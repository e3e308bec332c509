"""Splits: the images that a run trains, validates and tests on, each with a digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lit_biqa.data.lists import listed
from lit_biqa.data.readers.entry import Entry, Label
from lit_biqa.types import InputError, Sample

PARTS = ("train", "val", "test")
GROUP = "group"
"""Word for the default kind of groups, in ``group-<seed>``."""


@dataclass(frozen=True)
class Split:
    """Samples of one part of one split of one data set.

    Attributes:
        dataset: catalogue name, or the stem of a user's CSV.
        name: name of the split, such as ``official``.
        part: ``train``, ``val`` or ``test``.
        samples: its images that exist.
        digest: eight characters that identify the names and MOS of ``samples``.
        skipped: number of labelled images of this part that are absent.
    """

    dataset: str
    name: str
    part: str
    samples: list[Sample]
    digest: str
    skipped: int


def choose(entry: Entry, labels: list[Label], split: str, part: str, root: Path) -> list[int]:
    """Rows of ``labels`` that form ``part`` of ``split``.

    Args:
        entry: the data set.
        labels: all of its labels.
        split: ``all``, one of ``entry.parts`` or ``entry.lists``, ``random-<seed>``,
            ``<kind>-<seed>`` for one of ``entry.groups``, or ``group-<seed>`` for the first of
            them.
        part: ``train``, ``val`` or ``test``.
        root: data root; the lists of others are under it.

    Raises:
        InputError: if the data set has no such split, or the split no such part.
    """
    counted = entry.counted(labels)
    kind = held_out(entry, split)
    if split == "all":
        return counted
    if split in entry.parts:
        return _authors(entry, labels, split, part)
    if split in entry.lists:
        if part not in entry.lists[split]:
            raise _no_part(split, part, entry.lists[split])
        return listed(entry, labels, split, part, root)
    if re.fullmatch(r"random-\d+", split):
        return _seeded(counted, lambda i: labels[i].name, split, part)
    if kind:
        return _seeded(counted, lambda i: labels[i].groups.get(kind, ""), split, part)
    sizes = "".join(f", and each as <split>-{size}" for size in entry.versions)
    raise InputError(
        f"{entry.name} has no split {split!r}; it has {', '.join(offered(entry))}{sizes}."
    )


def held_out(entry: Entry, split: str) -> str:
    """Kind of the groups that a seeded split holds out; empty if it holds out none.

    Example: of AGIQA-3K, ``group-0`` and ``generator-0`` -> ``generator``, ``random-0`` -> empty.
    """
    seeded = re.fullmatch(r"(.+)-\d+", split)
    if seeded and seeded[1] == GROUP and entry.groups:
        return entry.groups[0]
    return seeded[1] if seeded and seeded[1] in entry.groups else ""


def offered(entry: Entry) -> list[str]:
    """Names of the splits of a data set."""
    names = [*entry.parts, "all", "random-<seed>", *entry.lists]
    return names + [f"{kind}-<seed>" for kind in entry.groups]


def _no_part(split: str, part: str, names: Iterable[str]) -> InputError:
    held_out = " Leave val unset to hold out a share of the training images." * (part == "val")
    return InputError(f"split {split!r} has no part {part!r}; it has {', '.join(names)}.{held_out}")


def _authors(entry: Entry, labels: list[Label], split: str, part: str) -> list[int]:
    parts = entry.parts[split]
    if part not in parts:
        raise _no_part(split, part, parts)
    rows = [i for i, label in enumerate(labels) if label.part in parts[part]]
    if not rows:
        raise InputError(
            f"{entry.name}/{split}: the label file names no image of part {part!r}. "
            f"Take the label file that names the parts from {entry.source}."
        )
    return rows


def _seeded(rows: list[int], group: Callable[[int], str], split: str, part: str) -> list[int]:
    if part not in ("train", "test"):
        raise _no_part(split, part, ("train", "test"))
    test = _drawn({group(row).lower() for row in rows}, 0.2, split.rpartition("-")[2])
    return [row for row in rows if (group(row).lower() in test) == (part == "test")]


def _drawn(names: set[str], share: float, seed: str) -> set[str]:
    """Share of ``names``, at least one, chosen by a hash that no generator's version can change."""
    order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    return set(order[: max(1, round(share * len(order)))])
