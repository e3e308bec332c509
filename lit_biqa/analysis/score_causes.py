"""Causes of a rating: how it changes when the image or the text before it is taken out or changed.

Attention shows where a model looks, not what moves its rating; two papers read opposite things from
it (`lit_biqa.analysis.score_attention`). This check keeps a model's own answer up to the rating,
changes its image or its text, and reads the expected rating there: the mean under the probabilities
of the first two digits, which needs no sampling.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from lit_biqa.analysis.csv_rows import COLUMNS, Who, who
from lit_biqa.analysis.score_states import RatedAnswer
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.evaluation.bootstrap import Array
from lit_biqa.evaluation.metrics import plcc
from lit_biqa.evaluation.report import write_csv
from lit_biqa.readouts.expected import digits, expected_after
from lit_biqa.types import IMAGE, Batch, Chat, InputError

CHANGES = ("no image", "no text", "other image", "other text")
_TAGS = re.compile(r"</?(?:caption|think)>")


@dataclass(frozen=True)
class Caused:
    """Expected ratings of one image.

    Attributes:
        who: the sample.
        mos: mean opinion score; ``nan`` if unknown.
        whole: with its image and its text.
        donor: with the image and the text of the sample whose image or text is lent.
        changed: under each of the `CHANGES`.
    """

    who: Who
    mos: float
    whole: float
    donor: float
    changed: tuple[float, ...]


def without_image(chat: Chat) -> Chat:
    """Chat whose question shows no image."""
    messages = [replace(m, text=m.text.replace(IMAGE, "").strip()) for m in chat.messages]
    return Chat(tuple(messages), None, chat.opening)


def without_text(opening: str) -> str:
    r"""Answer up to its rating without caption and reasoning; its tags stay.

    Example:
        >>> without_text('<think>\nIt is sharp.\n</think>\n<answer>\n{"rating": ')
        '<think>\n</think>\n<answer>\n{"rating": '
    """
    begun = [at for mark in ("<answer>", r"\boxed{") if (at := opening.rfind(mark)) >= 0]
    start = min(begun, default=0)
    return "".join(f"{tag}\n" for tag in _TAGS.findall(opening[:start])) + opening[start:]


def changes(one: RatedAnswer, donor: RatedAnswer) -> list[Chat]:
    """Chats whose next token is the first digit: the whole one, then each of the `CHANGES`."""
    whole = _whole(one)
    return [
        whole,
        without_image(whole),
        replace(whole, opening=without_text(one.opening)),
        replace(whole, pixels=donor.chat.pixels),
        replace(whole, opening=donor.opening),
    ]


def _whole(answer: RatedAnswer) -> Chat:
    return replace(answer.chat, opening=answer.opening)


class CausalCheck:
    """Expected ratings under each change, batch by batch; an answer borrows from the one before it.

    The first answer only lends.

    Args:
        model: model with its weights.
        at_once: chats that the model runs together.

    Attributes:
        results: ratings of all answers but the first.

    Raises:
        InputError: if a digit is not a single token.
    """

    def __init__(self, model: VisionLanguageModel, at_once: int) -> None:
        digits(model)
        self.model, self.at_once = model, at_once
        self.results: list[Caused] = []
        self._lender: tuple[RatedAnswer, float] | None = None

    def add(self, batch: Batch, answers: Sequence[RatedAnswer]) -> None:
        """Check the answers of a batch, which saw their images."""
        if self._lender is None and answers:
            first, *answers = answers
            self._lender = first, self._rate([_whole(first)])[0]
        if self._lender is None or not answers:
            return
        donors = [self._lender[0], *answers[:-1]]
        chats = [c for pair in zip(answers, donors, strict=True) for c in changes(*pair)]
        ratings, each = self._rate(chats), len(CHANGES) + 1
        rows = [ratings[at : at + each] for at in range(0, len(ratings), each)]
        wholes = [self._lender[1], *(row[0] for row in rows)]
        for answer, (whole, *changed), donor in zip(answers, rows, wholes[:-1], strict=True):
            mos, sample = float(batch["mos"][answer.row]), who(batch, answer.row)
            self.results.append(Caused(sample, mos, whole, donor, tuple(changed)))
        self._lender = answers[-1], wholes[-1]

    @torch.no_grad()
    def _rate(self, chats: Sequence[Chat]) -> list[float]:
        with self.model.cache_image_features():
            return [mean for mean, _ in expected_after(self.model, chats, self.at_once)]


@dataclass(frozen=True)
class Effect:
    """Effect of one change over all samples.

    Attributes:
        change: one of the `CHANGES`, or ``none``.
        moved: mean absolute difference from the whole rating, in MOS units.
        low: lower end of its 95% bootstrap interval.
        high: upper end.
        mos: PLCC with MOS; ``nan`` if undefined.
        own: PLCC with the whole rating of the sample that keeps its other half.
        donor: PLCC with the whole rating of the sample that lends; ``nan`` where nothing is lent.
    """

    change: str
    moved: float
    low: float
    high: float
    mos: float
    own: float
    donor: float


def effects(results: Sequence[Caused], resamples: int = 1000, seed: int = 0) -> list[Effect]:
    """Effects of no change and of each of the `CHANGES`.

    Raises:
        InputError: if there are no results.
    """
    if not results:
        raise InputError(
            "fewer than two answers have a rating, and the causal check exchanges their texts and "
            "images: take more samples with --samples"
        )
    mos, whole, donor = (
        np.array([getattr(item, name) for item in results]) for name in ("mos", "whole", "donor")
    )
    changed = np.array([item.changed for item in results]).T
    rows = np.random.default_rng(seed).integers(0, len(mos), (resamples, len(mos)))
    lines = []
    for name, scores in zip(("none", *CHANGES), (whole, *changed), strict=True):
        moved = np.abs(scores - whole)
        low, high = np.quantile(moved[rows].mean(1), (0.025, 0.975)).tolist()
        lent = _plcc(scores, donor) if name.startswith("other") else float("nan")
        values = float(moved.mean()), low, high
        lines.append(Effect(name, *values, _plcc(scores, mos), _plcc(scores, whole), lent))
    return lines


def _plcc(x: Array, y: Array) -> float:
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) < 2 or np.ptp(x) < 1e-6 or np.ptp(y) < 1e-6:
        return float("nan")
    return plcc(x, y)


def write_causes(folder: Path, results: Sequence[Caused]) -> None:
    """Write ``score_causes.csv`` (one line per sample) and its summary."""
    names = [name.replace(" ", "_") for name in CHANGES]
    lines = [(*r.who, r.mos, r.whole, r.donor, *r.changed) for r in results]
    write_csv(folder / "score_causes.csv", (*COLUMNS, "mos", "whole", "donor", *names), lines)
    summary = [
        (e.change, len(results), e.moved, e.low, e.high, e.mos, e.own, e.donor)
        for e in effects(results)
    ]
    columns = ("moved", "moved_low", "moved_high", "plcc_mos", "plcc_own", "plcc_donor")
    write_csv(folder / "score_causes_summary.csv", ("change", "samples", *columns), summary)
