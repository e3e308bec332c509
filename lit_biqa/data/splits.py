"""Splits: the images that a run trains, validates and tests on, each with a digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lit_biqa.data.readers.entry import Entry, Label
from lit_biqa.data.readers.tables import read_text
from lit_biqa.io.files import refuse_special
from lit_biqa.io.json_text import parse_json
from lit_biqa.types import InputError, Sample

PARTS = ("train", "val", "test")
GROUP = "group"
"""Word for the default kind of groups, in ``group-<seed>``."""
QALIGN = "https://github.com/Q-Future/Q-Align, playground/data (training_sft, test_jsons)"


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
        split: ``all``, one of ``entry.parts``, ``qalign``, ``random-<seed>``, ``<kind>-<seed>`` for
            one of ``entry.groups``, or ``group-<seed>`` for the first of them.
        part: ``train``, ``val`` or ``test``.
        root: data root; Q-Align's lists are under it.

    Raises:
        InputError: if the data set has no such split, or the split no such part.
    """
    counted = entry.counted(labels)
    kind = held_out(entry, split)
    if split == "all":
        return counted
    if split in entry.parts:
        return _authors(entry, labels, split, part)
    if split == "qalign" and entry.lists:
        return _listed(entry, labels, part, root / "splits" / "qalign")
    if re.fullmatch(r"random-\d+", split):
        return _seeded(counted, lambda i: labels[i].name, split, part)
    if kind:
        return _seeded(counted, lambda i: labels[i].groups.get(kind, ""), split, part)
    raise InputError(f"{entry.name} has no split {split!r}; it has {', '.join(offered(entry))}.")


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
    names = [*entry.parts, "all", "random-<seed>"]
    names += ["qalign"] if entry.lists else []
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


def _listed(entry: Entry, labels: list[Label], part: str, folder: Path) -> list[int]:
    if part not in entry.lists:
        raise _no_part("qalign", part, entry.lists)
    path = folder / entry.lists[part]
    refuse_special(path)
    if not path.is_file():
        here = [name for name, file in entry.lists.items() if (folder / file).is_file()]
        possible = f" The lists there serve part {' and '.join(here)}." if here else ""
        raise InputError(
            f"{entry.name}/qalign: part {part!r} needs {path}, which is absent. "
            f"Download it from {QALIGN}.{possible}"
        )
    rows = {label.name.lower(): i for i, label in enumerate(labels)}
    names = _qalign_names(path)
    strange = [name for name in names if name.lower() not in rows]
    if strange:
        raise InputError(
            f"{path} names {len(strange)} images that {entry.title} has no label for, such as "
            f"{', '.join(strange[:3])}. Is it the list of another data set?"
        )
    return sorted({rows[name.lower()] for name in names})


def _qalign_names(path: Path) -> list[str]:
    """File names in a list of Q-Align: ``image`` or ``img_path`` of each item, less its folder."""
    try:
        items = parse_json(read_text(path), str(path))
        names = [item.get("image") or item["img_path"] for item in items]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: a JSON list of items with 'image' or 'img_path' is expected ({error!r})."
        ) from error
    return [str(name).rpartition("/")[2] for name in names]
