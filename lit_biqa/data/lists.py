"""Lists of others: the images that Q-Align and DeQA-Score train and test on, as splits.

A list is a JSON array of items with ``image`` or ``img_path`` and, where it has them, scores. It
lies under ``splits/qalign`` or ``splits/deqa`` of the data root. Its scores are compared with those
of the label file on reading, and never used: MOS comes from the authors of the data set.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lit_biqa.data.readers.entry import Entry, Label
from lit_biqa.data.readers.tables import read_text
from lit_biqa.io.files import refuse_special
from lit_biqa.io.json_text import parse_json
from lit_biqa.types import InputError

log = logging.getLogger(__name__)

SOURCES = {
    "qalign": "https://github.com/Q-Future/Q-Align, playground/data (training_sft, test_jsons)",
    "deqa": "the metas of Data-DeQA-Score (https://github.com/zhiyuanyou/DeQA-Score, README)",
}
"""Split -> address of its lists."""

# z-scores and mean ratings of KonIQ correlate by 0.995; another set's scores, or none, by less.
_ALIKE = 0.99
_EXACT = 0.01  # largest difference on [1, 5] that rounding of a list may leave


def listed(entry: Entry, labels: Sequence[Label], split: str, part: str, root: Path) -> list[int]:
    """Rows of ``labels`` that a list names.

    Args:
        entry: the data set.
        labels: all of its labels.
        split: one of ``entry.lists``.
        part: one of the parts that the split has lists for.
        root: data root; lists are under it, in ``splits/<split>``.

    Raises:
        InputError: if the list is absent or of another form, names an image without label, or has
            other scores than the label file.
    """
    files, folder = entry.lists[split], root / "splits" / split
    path = folder / files[part]
    refuse_special(path)
    if not path.is_file():
        here = [name for name, file in files.items() if (folder / file).is_file()]
        possible = f" The lists there serve part {' and '.join(here)}." if here else ""
        raise InputError(
            f"{entry.name}/{split}: part {part!r} needs {path}, which is absent. "
            f"Download it from {SOURCES[split]}.{possible}"
        )
    rows = {label.name.lower(): i for i, label in enumerate(labels)}
    items = _items(path)
    strange = [name for name in items if name.lower() not in rows]
    if strange:
        raise InputError(
            f"{path} names {len(strange)} images that {entry.title} has no label for, such as "
            f"{', '.join(strange[:3])}. Is it the list of another data set?"
        )
    theirs = {rows[name.lower()]: score for name, score in items.items()}
    _compare(path, entry, labels, theirs)
    return sorted(theirs)


def _items(path: Path) -> dict[str, float]:
    """File name, less its folder, and score of each item; ``nan`` where it has none."""
    try:
        items = parse_json(read_text(path), str(path))
        names = [item.get("image") or item["img_path"] for item in items]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: a JSON list of items with 'image' or 'img_path' is expected ({error!r})."
        ) from error
    scores = map(_score, items)
    return {str(n).rpartition("/")[2]: score for n, score in zip(names, scores, strict=True)}


def _score(item: Mapping[str, Any]) -> float:
    """Score of an item: ``gt_score`` or ``mos``, or what its ``id`` says, as ``a.jpg->4.63``."""
    told = item.get("gt_score", item.get("mos", str(item.get("id", "")).rpartition("->")[2]))
    try:
        return float(told)
    except (TypeError, ValueError):
        return math.nan


def _compare(
    path: Path, entry: Entry, labels: Sequence[Label], theirs: Mapping[int, float]
) -> None:
    """Refuse a list whose scores are not those of the label file, on whatever scale.

    A list may hold another kind of score of the same ratings, such as KonIQ's mean ratings beside
    our z-scores: these are told in a warning.
    """
    rows = [row for row, score in theirs.items() if math.isfinite(score)]
    x = np.array([theirs[row] for row in rows])
    y = np.array([labels[row].mos for row in rows])
    if len(rows) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return
    r = float(np.corrcoef(x, y)[0, 1])
    slope, offset = np.polyfit(x, y, 1)
    apart = abs(slope * x + offset - y) * 4 / (entry.high - entry.low)
    worst = int(apart.argmax())
    if abs(r) < _ALIKE:
        raise InputError(
            f"{path}: its scores are not those of {entry.title}'s label file: they correlate by "
            f"{r:.3f}, and differ most for {labels[rows[worst]].name}. Take both files again from "
            "their authors."
        )
    if apart[worst] > _EXACT:
        log.warning(
            "%s: its scores correlate with those of %s by %.4f and differ by up to %.2f on "
            "[1, 5] (%s); MOS is that of the label file",
            *(path, entry.title, r, apart[worst], labels[rows[worst]].name),
        )
