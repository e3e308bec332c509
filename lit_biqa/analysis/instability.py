"""How often a model contradicts itself about one image.

Source: Building Reasonable Inference for VLMs in BIQA, section 4.2, which defines instability as
"the frequency of generating inconsistent or uncommon predictions" and no further.
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
NONE = "-"  # in files: the answer named no level


@dataclass(frozen=True)
class Spread:
    """A share, measured in several sessions.

    Attributes:
        mean: over the sessions.
        sd: over the sessions, by n - 1; ``nan`` for one session.
    """

    mean: float
    sd: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value for each session."""
        sd = statistics.stdev(values) if len(values) > 1 else float("nan")
        return cls(statistics.fmean(values), sd)

    def __str__(self) -> str:
        return f"{100 * self.mean:.2f} ± {100 * self.sd:.2f}%"


@dataclass(frozen=True)
class Instability:
    """How unsteady the predictions for one data set are, or for all.

    Attributes:
        dataset: catalogue name, or ``all``.
        samples: number of samples.
        unstable: share of predictions that differ from the sample's modal level or name none.
        disagreement: share of samples with any such prediction.
        no_level: share of predictions that name none.
    """

    dataset: str
    samples: int
    unstable: Spread
    disagreement: Spread
    no_level: Spread


def modal(levels: Sequence[str]) -> str:
    """The level named most often, of several the one named first; empty where none is named."""
    named = [level for level in levels if level]
    return Counter(named).most_common(1)[0][0] if named else ""


def unstable(levels: Sequence[str]) -> int:
    """How many predictions of one sample differ from its modal level or name none."""
    return len(levels) - max(Counter(filter(None, levels)).values(), default=0)


def by_dataset(asked: Sequence[Asked]) -> dict[str, list[Asked]]:
    """The samples of each data set, then all of them where there are several sets."""
    groups: dict[str, list[Asked]] = {}
    for each in asked:
        groups.setdefault(each.who.dataset, []).append(each)
    return groups | ({ALL: list(asked)} if len(groups) > 1 else {})


def instability(asked: Sequence[Asked]) -> list[Instability]:
    """Instability of each data set, then of all."""
    return [_measured(name, group) for name, group in by_dataset(asked).items()]


def _measured(name: str, group: Sequence[Asked]) -> Instability:
    shares = []
    for session in range(len(group[0].sessions)):
        levels = [[v.level for v in each.sessions[session]] for each in group]
        counts = [unstable(each) for each in levels]
        total = sum(map(len, levels))
        unnamed = sum(not level for each in levels for level in each)
        shares.append((sum(counts) / total, sum(map(bool, counts)) / len(counts), unnamed / total))
    return Instability(name, len(group), *(Spread.of(each) for each in zip(*shares, strict=True)))


def write_instability(
    folder: Path, asked: Sequence[Asked], found: Sequence[Instability], temperature: float
) -> None:
    """Write ``instability.csv``, a line for each sample and session, and its summary."""
    lines = []
    for each in asked:
        for number, session in enumerate(each.sessions, 1):
            levels = [verdict.level for verdict in session]
            most = modal(levels) or NONE
            named = " ".join(level or NONE for level in levels)
            lines.append((*each.who, number, most, unstable(levels), named))
    header = (*COLUMNS, "session", "modal", "unstable", "levels")
    write_csv(folder / "instability.csv", header, lines)
    shares = ("unstable", "disagreement", "no_level")
    settings = len(asked[0].sessions), len(asked[0].sessions[0]), temperature
    summary: list[Sequence[object]] = []
    for line in found:
        spreads = (getattr(line, share) for share in shares)
        figures = (figure for spread in spreads for figure in (spread.mean, spread.sd))
        summary.append((line.dataset, line.samples, *settings, *figures))
    columns = (f"{share}_{figure}" for share in shares for figure in ("mean", "sd"))
    first = ("dataset", "samples", "sessions", "predictions", "temperature")
    write_csv(folder / "instability_summary.csv", (*first, *columns), summary)


def write_answers(path: Path, asked: Sequence[Asked]) -> None:
    """Write every answer, a line for each prediction."""
    lines = [
        (*each.who, number, place, v.level or NONE, v.text)
        for each in asked
        for number, session in enumerate(each.sessions, 1)
        for place, v in enumerate(session, 1)
    ]
    write_csv(path, (*COLUMNS, "session", "prediction", "level", "text"), lines)
