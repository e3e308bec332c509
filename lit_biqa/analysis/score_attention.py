"""Attention at the digits of a rating: to image, prompt, caption, reasoning, and to which words.

Sources: Reasoning as Representation, figure 3, gives 95% to the reasoning and 5% to the image and
leaves the prompt out; Understanding Pure Textual Reasoning, figure 3, finds that image tokens
dominate. Neither paper says how it combines layers and heads; the code of the second takes the last
layer, the mean over heads and the first digit. This module averages over heads, and reports each
layer, the mean of all layers and the last layer; for the first digit, and for all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lit_biqa.analysis.attention import LAST, MEAN, last_attention, shared_out
from lit_biqa.analysis.csv_rows import COLUMNS, Who, who
from lit_biqa.analysis.score_states import SEGMENTS, TEXTS, Context, RatedAnswer, context
from lit_biqa.backbones.inputs import prompts_of
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.evaluation.report import write_csv
from lit_biqa.text.rouge import FUNCTION_WORDS
from lit_biqa.types import Batch, InputError

FIRST, ALL = "first", "all"
_WORD = re.compile(r"[^\W\d_]{2,}")  # no "s" of "image's"


@dataclass(frozen=True)
class WordWeight:
    """Attention to one place of a word.

    Attributes:
        word: the word, in lower case.
        mean: share of all attention, mean of all layers and digits.
        last: share of all attention, last layer, mean of all digits.
    """

    word: str
    mean: float
    last: float


@dataclass(frozen=True)
class ScoreLook:
    """Attention of one answer at the digits of its rating.

    Attributes:
        who: the sample.
        score: the rating.
        first: share of each segment as the first digit is predicted, by layer ``[K, S]``.
        all: the same, mean of all digits.
        tokens: number of tokens of each segment before the first digit ``[S]``.
        words: words of caption and reasoning.
    """

    who: Who
    score: float
    first: Tensor
    all: Tensor
    tokens: Tensor
    words: list[WordWeight]


@dataclass(frozen=True)
class ScoreAttention:
    """Shares averaged over samples, by layer; the last row is the mean of all layers.

    Attributes:
        looks: attention of each sample.
        mean: share of each segment, mean over samples ``[K + 1, S]``, for ``first`` and ``all``.
        sd: standard deviation over samples (n - 1); ``nan`` for one sample.
        times_uniform: share of a segment divided by its share of the tokens; 1 for uniform
            attention, ``nan`` if no sample has the segment.
        tokens: number of tokens of each segment, mean over samples ``[S]``.
    """

    looks: list[ScoreLook]
    mean: Mapping[str, Tensor]
    sd: Mapping[str, Tensor]
    times_uniform: Mapping[str, Tensor]
    tokens: Tensor

    @classmethod
    def of(cls, looks: list[ScoreLook]) -> ScoreAttention:
        """Average over samples.

        Raises:
            InputError: if there is none.
        """
        if not looks:
            raise InputError(
                "no answer has a rating, so there is no digit to measure at: take more samples "
                "with --samples, or another readout with --condition"
            )
        tokens = torch.stack([look.tokens for look in looks]).double()
        uniform = (tokens / tokens.sum(1, keepdim=True))[:, None]
        mean, sd, ratio = {}, {}, {}
        for name in (FIRST, ALL):
            shares = torch.stack([_and_mean(getattr(look, name).double()) for look in looks])
            mean[name] = shares.mean(0)
            sd[name] = shares.std(0) if len(looks) > 1 else shares[0].new_full((), torch.nan)
            sd[name] = sd[name].expand_as(mean[name])
            ratio[name] = (shares / uniform).masked_fill(uniform == 0, torch.nan).nanmean(0)
        return cls(looks, mean, sd, ratio, tokens.mean(0))

    def of_text(self, row: int) -> float:
        """Share of caption and reasoning in what goes to image, caption and reasoning.

        It is the measure of *Reasoning as Representation*, which leaves the prompt out.

        Args:
            row: -1 for the mean of all layers, -2 for the last layer.
        """
        values: list[float] = self.mean[ALL][row].tolist()
        shares = dict(zip(SEGMENTS, values, strict=True))
        text = sum(shares[name] for name in TEXTS)
        return text / max(text + shares["image"], 1e-12)


def _and_mean(layers: Tensor) -> Tensor:
    return torch.cat([layers, layers.mean(0, keepdim=True)])


@torch.no_grad()
def score_looks(
    model: VisionLanguageModel, batch: Batch, answers: Sequence[RatedAnswer], at_once: int
) -> list[ScoreLook]:
    """Attention of rated answers at their digits.

    Args:
        model: model with its weights.
        batch: batch of the answers.
        answers: answers with a rating.
        at_once: contexts that the model runs together.
    """
    contexts = [context(model, answer) for answer in answers]
    asked = [(c, place) for c in contexts for place in c.digits]
    rows: list[Tensor] = []
    with model.cache_image_features():
        for start in range(0, len(asked), at_once):
            some = [c.before(place) for c, place in asked[start : start + at_once]]
            weights = model(last_attention, prompts_of(some).to(model.device)).cpu()
            rows += [w[:, w.shape[1] - len(r.ids) :] for w, r in zip(weights, some, strict=True)]
    given = iter(rows)
    return [
        _look(who(batch, answer.row), answer.score, c, [next(given) for _ in c.digits])
        for answer, c in zip(answers, contexts, strict=True)
    ]


def _look(sample: Who, score: float, c: Context, rows: Sequence[Tensor]) -> ScoreLook:
    """Look of one answer from the attention ``[K, place]`` before each of its digits."""
    shared = [shared_out(row, c.segment[: row.shape[1]], len(SEGMENTS)) for row in rows]
    width = rows[0].shape[1]
    # Captions and reasonings end before the first digit.
    mean = torch.stack([row[:, :width] for row in rows]).mean(0)
    words = list(word_weights(c.pieces, mean.mean(0), mean[-1]))
    shares = torch.stack([share for share, _ in shared])
    return ScoreLook(sample, score, shares[0], shares.mean(0), shared[0][1], words)


def word_weights(pieces: Mapping[int, str], mean: Tensor, last: Tensor) -> Iterator[WordWeight]:
    """Words of a text with the attention to their tokens, in their order.

    Neighbouring tokens are joined; a token with parts of several words counts for the first that
    begins or goes on in it.

    Args:
        pieces: text of each token by its place.
        mean: attention to each place, mean of the layers ``[L]``.
        last: attention to each place in the last layer ``[L]``.

    Example: tokens " blur", "ry," and " dark" give the words "blurry" and "dark".
    """
    for run in _runs(sorted(pieces)):
        text, owner = "", list[int]()
        for place in run:
            text += pieces[place]
            owner += [place] * len(pieces[place])
        taken: set[int] = set()
        for match in _WORD.finditer(text):
            places = sorted(set(owner[slice(*match.span())]) - taken)
            taken.update(places)
            sums = (sum(float(weights[p]) for p in places) for weights in (mean, last))
            yield WordWeight(match[0].lower(), *sums)


def _runs(places: Sequence[int]) -> Iterator[list[int]]:
    """Consecutive places together."""
    run: list[int] = []
    for place in places:
        if run and place != run[-1] + 1:
            yield run
            run = []
        run.append(place)
    if run:
        yield run


@dataclass(frozen=True)
class WordShare:
    """Attention to one word over all samples.

    Attributes:
        word: the word, in lower case.
        count: number of its occurrences.
        mean: its part of the attention to all words of captions and reasonings, mean of all layers.
        last: the same in the last layer.
        times_uniform: attention to an occurrence, divided by that to a mean word; mean of layers.
    """

    word: str
    count: int
    mean: float
    last: float
    times_uniform: float


def word_shares(looks: Iterable[ScoreLook]) -> list[WordShare]:
    """Words of captions and reasonings without function words, from the most attention down."""
    weights = [w for look in looks for w in look.words if w.word not in FUNCTION_WORDS]
    totals = [sum(w.mean for w in weights), sum(w.last for w in weights)]
    sums: dict[str, list[float]] = {}
    for weight in weights:
        entry = sums.setdefault(weight.word, [0, 0.0, 0.0])
        entry[0] += 1
        entry[1] += weight.mean
        entry[2] += weight.last
    shares = [
        WordShare(
            word,
            int(count),
            mean / max(totals[0], 1e-12),
            last / max(totals[1], 1e-12),
            mean / max(totals[0], 1e-12) * len(weights) / count,
        )
        for word, (count, mean, last) in sums.items()
    ]
    return sorted(shares, key=lambda share: (-share.mean, share.word))


def write_score_attention(folder: Path, result: ScoreAttention) -> None:
    """Write ``score_attention.csv``, ``_samples.csv`` and ``_words.csv``."""
    layers: list[object] = [*range(1, len(result.mean[ALL])), MEAN]
    lines: list[Sequence[object]] = []
    for digit in (FIRST, ALL):
        tables = (result.mean[digit], result.sd[digit], result.times_uniform[digit])
        for k, layer in enumerate(layers):
            for s, name in enumerate(SEGMENTS):
                values = (float(table[k, s]) for table in tables)
                lines.append((digit, layer, name, float(result.tokens[s]), *values))
    shares = ("share_mean", "share_sd", "times_uniform")
    write_csv(
        folder / "score_attention.csv", ("digit", "layer", "segment", "tokens", *shares), lines
    )
    lines = [
        (*look.who, look.score, which, *look.tokens.tolist(), *shares.tolist())
        for look in result.looks
        for which, shares in ((MEAN, look.all.mean(0)), (LAST, look.all[-1]))
    ]
    counts = (f"{segment}_tokens" for segment in SEGMENTS)
    header = (*COLUMNS, "score", "layers", *counts, *SEGMENTS)
    write_csv(folder / "score_attention_samples.csv", header, lines)
    words = [(w.word, w.count, w.mean, w.last, w.times_uniform) for w in word_shares(result.looks)]
    columns = ("word", "count", "mean", "last", "times_uniform")
    write_csv(folder / "score_attention_words.csv", columns, words)
