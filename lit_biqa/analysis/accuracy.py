"""Accuracy of the level word against the level of the MOS.

Source: Building Reasonable Inference for VLMs in BIQA, section 4.3. The paper names neither its set
of words nor how it matched them; this module uses five levels and three.
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
"""The five levels without the modifier "very", which maps bad to poor and excellent to good."""


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of level words against MOS, on one data set or on all.

    Attributes:
        dataset: catalogue name, or ``all``.
        levels: levels that words and MOS are sorted into.
        samples: number of samples.
        right: share of predictions that equal the level of the MOS.
        majority: share of samples at the most frequent level of the MOS, the accuracy of always
            naming that level.
        confusion: predictions of all sessions by level of the MOS and level named; ``-`` for none.
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
        asked: samples with a MOS, and their predictions.
        levels: map from each of the five levels to the level it counts as, `FIVE` or `THREE`.
    """
    return [_measured(name, group, levels) for name, group in by_dataset(asked).items()]


def _measured(name: str, group: Sequence[Asked], levels: Mapping[str, str]) -> Accuracy:
    truths = [levels[level_of(item.mos)] for item in group]
    confusion: Counter[tuple[str, str]] = Counter()
    right = []
    for session in range(len(group[0].sessions)):
        pairs = [
            (truth, levels.get(verdict.level, NONE))
            for truth, item in zip(truths, group, strict=True)
            for verdict in item.sessions[session]
        ]
        right.append(sum(truth == named for truth, named in pairs) / len(pairs))
        confusion.update(pairs)
    most = max(Counter(truths).values()) / len(truths)
    names = tuple(dict.fromkeys(levels.values()))
    return Accuracy(name, names, len(group), Spread.of(right), most, confusion)


def write_accuracy(folder: Path, asked: Sequence[Asked], results: Sequence[Accuracy]) -> None:
    """Write ``accuracy.csv`` (one line per prediction), its summary, and ``confusion.csv``."""
    lines = [
        (*item.who, item.mos, level_of(item.mos), number, verdict.level or NONE)
        for item in asked
        for number, session in enumerate(item.sessions, 1)
        for verdict in session
    ]
    header = (*COLUMNS, "mos", "level", "session", "predicted")
    write_csv(folder / "accuracy.csv", header, lines)
    sessions = len(asked[0].sessions)
    summary = [
        (f.dataset, len(f.levels), f.samples, sessions, f.right.mean, f.right.sd, f.majority)
        for f in results
    ]
    columns = ("dataset", "levels", "samples", "sessions", "mean", "sd", "majority")
    write_csv(folder / "accuracy_summary.csv", columns, summary)
    counts = [
        (f.dataset, len(f.levels), truth, named, f.confusion.get((truth, named), 0))
        for f in results
        for truth in f.levels
        for named in (*f.levels, NONE)
    ]
    cells = ("dataset", "levels", "level", "predicted", "count")
    write_csv(folder / "confusion.csv", cells, counts)
