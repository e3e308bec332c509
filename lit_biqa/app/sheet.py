"""HTML and CSV of answers: scores, nearest prototypes, distortions, texts."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from lit_biqa.analysis.case import Case
from lit_biqa.app.distortions import KINDS
from lit_biqa.app.pictures import Near, Scored
from lit_biqa.app.settings import ServerLimits
from lit_biqa.scoring.scale import HIGH, LOW

_SCORED, _WRITTEN = ["score", "level"], ["rating", "rated level"]


@dataclass(frozen=True)
class Answer:
    """Answer about a picture: its score and what a model wrote.

    Attributes:
        name: name of the picture.
        scored: answer of the scorer; ``None`` without one.
        case: answer of the model that writes; ``None`` without one, or before it has answered.
    """

    name: str
    scored: Scored | None = None
    case: Case | None = None

    @property
    def status(self) -> str:
        """``ok``, or the first reason why something is missing."""
        told = [part.status for part in (self.scored, self.case) if part is not None]
        return next((status for status in told if status != "ok"), "ok")


def columns(scores: bool, writes: bool) -> list[str]:
    """Columns of the table for a server that scores, writes, or both."""
    return ["picture", *_SCORED * scores, *_WRITTEN * writes, "status"]


def heading(title: str, given: ServerLimits) -> str:
    """Heading of the page: what it is for, and what it takes."""
    return (
        f'<h1>Image quality</h1><p class="lead">Drop pictures to have their mean opinion score '
        f"predicted, from {LOW:.0f} (bad) to {HIGH:.0f} (excellent). One picture alone is also "
        f"shown under distortions.</p>"
        f'<p class="small">{escape(title)}. At most {given.pictures} pictures at once, each of '
        f"{given.picture_bytes / 10**6:.0f} MB and {given.picture_pixels / 10**6:.0f} megapixels. "
        f"They are deleted once they are scored.</p>"
    )


def summary(answers: Sequence[Answer]) -> str:
    """One line: how many pictures have a score; and one line for each that has none."""
    failed = [answer for answer in answers if answer.status != "ok"]
    lines = [f"{len(answers) - len(failed)} of {len(answers)} scored"]
    lines += [f"not scored: {answer.name}: {answer.status}" for answer in failed]
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def table_rows(answers: Sequence[Answer], scores: bool, writes: bool) -> list[list[str]]:
    """Cells of the table, as `columns` names them; scores on [1, 5] sort as text too."""
    rows = []
    for answer in answers:
        cells = [answer.name]
        for part in (answer.scored,) * scores + (answer.case,) * writes:
            cells += ["", ""] if part is None else [_number(part.score), part.level]
        rows.append([*cells, answer.status])
    return rows


def _number(score: float) -> str:
    return f"{score:.2f}" if math.isfinite(score) else ""


def csv_of(answers: Sequence[Answer], scores: bool, writes: bool) -> str:
    """Text of a CSV file: the table, with the texts of a model that writes."""
    names, rows = columns(scores, writes), table_rows(answers, scores, writes)
    if writes:
        names += ["caption", "reasoning"]
        texts = [(a.case.caption, a.case.reasoning) if a.case else ("", "") for a in answers]
        rows = [[*row, *pair] for row, pair in zip(rows, texts, strict=True)]
    return _csv_text(names, rows)


def _csv_text(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(names)
    writer.writerows(rows)
    return stream.getvalue()


def picture_blocks(scored: Sequence[Scored]) -> str:
    """A block for each picture that has a score, open if it is the only one."""
    shown = [one for one in scored if math.isfinite(one.score)]
    return "".join(_block(one, len(shown) == 1) for one in shown)


def _block(one: Scored, is_open: bool) -> str:
    head = (
        f'<img src="{one.thumbnail}" alt=""><span class="name">{escape(one.name)}</span>'
        f'<span class="score">{one.score:.2f}</span><span class="level">{one.level}</span>'
        f"{_bar(one.score)}"
    )
    rows = "".join(map(_near, one.nearest))
    heads = "<tr><th>share</th><th>score</th><th>training image nearest to it</th></tr>"
    return (
        f'<details class="picture"{" open" * is_open}><summary>{head}</summary>'
        f"<p>Prototypes with the largest share in the score:</p>"
        f"<table>{heads}{rows}</table></details>"
    )


def _bar(score: float) -> str:
    share = 100 * (score - LOW) / (HIGH - LOW)
    return f'<span class="bar"><span style="width:{share:.0f}%"></span></span>'


def _near(near: Near) -> str:
    example = near.example
    if example is None:
        what = f"prototype {near.prototype}"
    else:
        texts = "".join(f"<p>{escape(text)}</p>" for text in example.texts[:2])
        what = f"{escape(example.name)} ({escape(example.dataset)}, MOS {example.mos:.2f}){texts}"
    return f"<tr><td>{near.weight:.1%}</td><td>{near.score:.2f}</td><td>{what}</td></tr>"


Variants = Mapping[str, Sequence[tuple[float, str]]]
"""Kind of distortion -> score and data URL at each level, the undistorted picture first."""

_WIDE, _HIGH, _EDGE = 320, 150, 24  # units of a curve's drawing, and its margin


def distorted_block(variants: Variants) -> str:
    """Picture and curve of each distortion and level; the page shows one of them."""
    parts: list[str] = []
    for kind, levels in variants.items():
        scores = [score for score, _ in levels]
        for level, (score, url) in enumerate(levels):
            what = f"{KINDS[kind]}, level {level}" if level else "undistorted"
            unseen = "" if not parts else " hidden"
            parts.append(
                f'<figure data-kind="{kind}" data-level="{level}"{unseen}>'
                f'<img src="{url}" alt="{what}"><figcaption>{what}: score '
                f"<b>{score:.2f}</b></figcaption>{_curve(scores, level)}</figure>"
            )
    return f'<div class="variants">{"".join(parts)}</div>'


def _curve(scores: Sequence[float], level: int) -> str:
    """Scores over levels, with one of them marked."""
    points = [_point(place, score, len(scores)) for place, score in enumerate(scores)]
    grid = "".join(
        f'<line x1="{_EDGE}" x2="{_WIDE - 8}" y1="{y:.0f}" y2="{y:.0f}"/>'
        f'<text x="4" y="{y + 4:.0f}">{mark}</text>'
        for mark in (1, 2, 3, 4, 5)
        for y in [_point(0, mark, len(scores))[1]]
    )
    ticks = "".join(
        f'<text x="{x - 3:.0f}" y="{_HIGH - 4}">{place}</text>'
        for place, (x, _) in enumerate(points)
    )
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[level]
    return (
        f'<svg viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="score over levels">{grid}'
        f'{ticks}<polyline points="{line}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="5"/></svg>'
    )


def _point(place: int, score: float, count: int) -> tuple[float, float]:
    x = _EDGE + 8 + place * (_WIDE - _EDGE - 24) / max(1, count - 1)
    top, bottom = 12, _HIGH - 24
    return x, bottom - (score - LOW) / (HIGH - LOW) * (bottom - top)


def written_block(name: str, passes: Sequence[str], case: Case | None = None) -> str:
    """Block of what a model has written about a picture so far, with its rating once it has one."""
    texts = [(f"Pass {number}", text) for number, text in enumerate(passes, 1)]
    head = "writing ..."
    if case is not None:
        head = case.headline
        told = [("Caption", case.caption), ("Reasoning", case.reasoning)]
        texts = [pair for pair in told if pair[1]] or texts
    blocks = "".join(f"<h4>{title}</h4><p>{escape(text)}</p>" for title, text in texts)
    return (
        f'<section class="written"><h3>{escape(name)}: <span class="rating">{escape(head)}</span>'
        f"</h3>{blocks}</section>"
    )
