"""Instability: how often a model contradicts itself about one image.

Source: Building Reasonable Inference for VLMs in BIQA, section 4.2. The paper defines instability
only as "the frequency of generating inconsistent or uncommon predictions".
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_biqa.analysis.answers import Asked
from lit_biqa.analysis.csv_rows import COLUMNS
from lit_biqa.evaluation.report import write_csv

ALL = "all"
NONE = "-"  # in files: the answer names no level


@dataclass(frozen=True)
class Spread:
    """A share measured in several sessions.

    Attributes:
        mean: mean over the sessions.
        sd: standard deviation over the sessions (n - 1); ``nan`` for one session.
    """

    mean: float
    sd: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Mean and deviation of one value per session."""
        sd = statistics.stdev(values) if len(values) > 1 else float("nan")
        return cls(statistics.fmean(values), sd)

    def __str__(self) -> str:
        return f"{100 * self.mean:.2f} ± {100 * self.sd:.2f}%"


@dataclass(frozen=True)
class Instability:
    """Instability of the predictions on one data set, or on all.

    Attributes:
        dataset: catalogue name, or ``all``.
        samples: number of samples.
        unstable: share of predictions that differ from the sample's modal level or name none.
        disagreement: share of samples with any such prediction.
        no_level: share of predictions that name no level.
    """

    dataset: str
    samples: int
    unstable: Spread
    disagreement: Spread
    no_level: Spread


def modal(levels: Sequence[str]) -> str:
    """Most frequent level, of several the one named first; empty if none is named."""
    named = [level for level in levels if level]
    return Counter(named).most_common(1)[0][0] if named else ""


def unstable(levels: Sequence[str]) -> int:
    """Number of predictions of one sample that differ from its modal level or name none."""
    return len(levels) - max(Counter(filter(None, levels)).values(), default=0)


def by_dataset(asked: Sequence[Asked]) -> dict[str, list[Asked]]:
    """Samples of each data set, then all samples if there are several sets."""
    groups: dict[str, list[Asked]] = {}
    for item in asked:
        groups.setdefault(item.who.dataset, []).append(item)
    return groups | ({ALL: list(asked)} if len(groups) > 1 else {})


def instability(asked: Sequence[Asked]) -> list[Instability]:
    """Instability on each data set, then on all."""
    return [_measured(name, group) for name, group in by_dataset(asked).items()]


def _measured(name: str, group: Sequence[Asked]) -> Instability:
    shares = []
    for session in range(len(group[0].sessions)):
        levels = [[v.level for v in item.sessions[session]] for item in group]
        counts = [unstable(named) for named in levels]
        total = sum(map(len, levels))
        unnamed = sum(not level for named in levels for level in named)
        shares.append((sum(counts) / total, sum(map(bool, counts)) / len(counts), unnamed / total))
    return Instability(name, len(group), *(Spread.of(share) for share in zip(*shares, strict=True)))


def write_instability(
    folder: Path, asked: Sequence[Asked], results: Sequence[Instability], temperature: float
) -> None:
    """Write ``instability.csv`` (one line per sample and session) and its summary."""
    lines = []
    for item in asked:
        for number, session in enumerate(item.sessions, 1):
            levels = [verdict.level for verdict in session]
            most = modal(levels) or NONE
            named = " ".join(level or NONE for level in levels)
            lines.append((*item.who, number, most, unstable(levels), named))
    header = (*COLUMNS, "session", "modal", "unstable", "levels")
    write_csv(folder / "instability.csv", header, lines)
    shares = ("unstable", "disagreement", "no_level")
    settings = len(asked[0].sessions), len(asked[0].sessions[0]), temperature
    summary: list[Sequence[object]] = []
    for line in results:
        spreads = (getattr(line, share) for share in shares)
        figures = (figure for spread in spreads for figure in (spread.mean, spread.sd))
        summary.append((line.dataset, line.samples, *settings, *figures))
    columns = (f"{share}_{figure}" for share in shares for figure in ("mean", "sd"))
    first = ("dataset", "samples", "sessions", "predictions", "temperature")
    write_csv(folder / "instability_summary.csv", (*first, *columns), summary)


def write_answers(path: Path, asked: Sequence[Asked]) -> None:
    """Write every answer, one line per prediction."""
    lines = [
        (*item.who, number, place, v.level or NONE, v.text)
        for item in asked
        for number, session in enumerate(item.sessions, 1)
        for place, v in enumerate(session, 1)
    ]
    write_csv(path, (*COLUMNS, "session", "prediction", "level", "text"), lines)
