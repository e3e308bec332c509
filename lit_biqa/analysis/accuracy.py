"""How often the quality word is that of the MOS.

Source: Building Reasonable Inference for VLMs in BIQA, section 4.3, which names neither the set of
words nor the way they were matched; here both five levels and three.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_biqa.analysis.answers import Asked
from lit_biqa.analysis.csv_rows import COLUMNS
from lit_biqa.analysis.instability import NONE, Spread, by_dataset
from lit_biqa.evaluation.report import write_csv
from lit_biqa.text.levels import LEVELS, level_of

FIVE = {level: level for level in LEVELS}
THREE = {"bad": "poor", "poor": "poor", "fair": "fair", "good": "good", "excellent": "good"}
"""The five levels without the modifier "very", which makes bad of poor and excellent of good."""


@dataclass(frozen=True)
class Accuracy:
    """Matches between words and MOS over one data set, or over all.

    Attributes:
        dataset: catalogue name, or ``all``.
        levels: that words and MOS are sorted into.
        samples: number of samples.
        right: share of predictions that are the level of the MOS.
        majority: share of samples at the most frequent level of the MOS: what naming it always
            would reach.
        confusion: predictions of all sessions by level of the MOS and level named, ``-`` for none.
    """

    dataset: str
    levels: tuple[str, ...]
    samples: int
    right: Spread
    majority: float
    confusion: Mapping[tuple[str, str], int]


def accuracy(asked: Sequence[Asked], levels: Mapping[str, str]) -> list[Accuracy]:
    """Accuracy on each data set, then on all.

    Args:
        asked: samples of known MOS.
        levels: the level that each of the five counts as, `FIVE` or `THREE`.
    """
    return [_measured(name, group, levels) for name, group in by_dataset(asked).items()]


def _measured(name: str, group: Sequence[Asked], levels: Mapping[str, str]) -> Accuracy:
    truths = [levels[level_of(each.mos)] for each in group]
    confusion: Counter[tuple[str, str]] = Counter()
    right = []
    for session in range(len(group[0].sessions)):
        pairs = [
            (truth, levels.get(verdict.level, NONE))
            for truth, each in zip(truths, group, strict=True)
            for verdict in each.sessions[session]
        ]
        right.append(sum(truth == named for truth, named in pairs) / len(pairs))
        confusion.update(pairs)
    most = max(Counter(truths).values()) / len(truths)
    kept = tuple(dict.fromkeys(levels.values()))
    return Accuracy(name, kept, len(group), Spread.of(right), most, confusion)


def write_accuracy(folder: Path, asked: Sequence[Asked], found: Sequence[Accuracy]) -> None:
    """Write ``accuracy.csv``, a line for each prediction, its summary, and ``confusion.csv``."""
    lines = [
        (*each.who, each.mos, level_of(each.mos), number, verdict.level or NONE)
        for each in asked
        for number, session in enumerate(each.sessions, 1)
        for verdict in session
    ]
    header = (*COLUMNS, "mos", "level", "session", "predicted")
    write_csv(folder / "accuracy.csv", header, lines)
    sessions = len(asked[0].sessions)
    summary = [
        (f.dataset, len(f.levels), f.samples, sessions, f.right.mean, f.right.sd, f.majority)
        for f in found
    ]
    columns = ("dataset", "levels", "samples", "sessions", "mean", "sd", "majority")
    write_csv(folder / "accuracy_summary.csv", columns, summary)
    counts = [
        (f.dataset, len(f.levels), truth, named, f.confusion.get((truth, named), 0))
        for f in found
        for truth in f.levels
        for named in (*f.levels, NONE)
    ]
    cells = ("dataset", "levels", "level", "predicted", "count")
    write_csv(folder / "confusion.csv", cells, counts)
