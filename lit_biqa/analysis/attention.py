"""Attention at the quality word: to the image, to the description, and to the rest.

Source: Building Reasonable Inference for VLMs in BIQA, section 4.3 and figure 5. The paper does not
say how it combines layers and heads. This module averages over heads, and reports each layer, the
mean of all layers and the last layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lit_biqa.analysis.answer_states import Moment, differing, moments
from lit_biqa.analysis.csv_rows import COLUMNS, Who, who
from lit_biqa.backbones.inputs import Inputs
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.evaluation.report import write_csv
from lit_biqa.readouts.base import Readout
from lit_biqa.readouts.levels import GeneratedWord, WordReadout
from lit_biqa.types import Batch, InputError

SEGMENTS = ("image", "description", "rest")
MEAN, LAST = "mean", "last"


@dataclass(frozen=True)
class Look:
    """Attention of one sample.

    Attributes:
        who: the sample.
        shares: share of the attention by layer and segment ``[K, 3]``; each row sums to 1.
        tokens: number of tokens of each segment ``[3]``.
        image: share of each image token by layer ``[K, image tokens]``.
    """

    who: Who
    shares: Tensor
    tokens: Tensor
    image: Tensor


@dataclass(frozen=True)
class Attention:
    """Attention averaged over samples, by layer; the last row is the mean of all layers.

    Attributes:
        looks: attention of each sample.
        mean: share of each segment, mean over samples ``[K + 1, 3]``.
        sd: standard deviation over samples (n - 1); ``nan`` for one sample.
        times_uniform: share of a segment divided by its share of the tokens, mean over the samples
            that have it; 1 for uniform attention, ``nan`` if no sample has the segment.
        tokens: number of tokens of each segment, mean over samples ``[3]``.
        image: share of each image token ``[K + 1, tokens]``, mean over the samples with the most
            frequent number of image tokens.
        image_samples: number of these samples; 0 if no context holds an image.
    """

    looks: list[Look]
    mean: Tensor
    sd: Tensor
    times_uniform: Tensor
    tokens: Tensor
    image: Tensor
    image_samples: int

    @classmethod
    def of(cls, looks: list[Look]) -> Attention:
        """Average over samples."""
        shares = torch.stack([_and_mean(look.shares) for look in looks])
        tokens = torch.stack([look.tokens for look in looks]).to(shares.dtype)
        uniform = (tokens / tokens.sum(1, keepdim=True))[:, None]
        ratios = (shares / uniform).masked_fill(uniform == 0, torch.nan)
        sd = shares.std(0) if len(looks) > 1 else torch.full_like(shares[0], torch.nan)
        widths = Counter(look.image.shape[1] for look in looks if look.image.shape[1])
        width = widths.most_common(1)[0][0] if widths else 0
        images = [_and_mean(look.image) for look in looks if look.image.shape[1] == width]
        image, seen = torch.stack(images).mean(0), len(images) * bool(width)
        return cls(looks, shares.mean(0), sd, ratios.nanmean(0), tokens.mean(0), image, seen)


def _and_mean(layers: Tensor) -> Tensor:
    return torch.cat([layers, layers.mean(0, keepdim=True)])


@contextmanager
def eager(model: VisionLanguageModel) -> Iterator[None]:
    """Context in which attention is computed eagerly, so that its weights are available."""
    before = model.model.config._attn_implementation
    model.model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.model.set_attn_implementation(before)


def last_attention(model: VisionLanguageModel, inputs: Inputs) -> Tensor:
    """Attention of the last token of each row, averaged over heads.

    The tokens before it run as usual, into a cache; only the last token runs with eager attention,
    so that no map of all tokens on all tokens is held.

    Args:
        model: called inside ``model(work, ...)``.
        inputs: padded on the left.

    Returns:
        ``[B, K, L]``; 0 at padding, each row sums to 1.
    """
    from lit_biqa.compat.transformers import DynamicCache

    embeds, image = model.embed(inputs)
    cache, before = DynamicCache(), slice(None, -1)
    model.decode(
        embeds[:, before],
        inputs.mask[:, before],
        inputs.positions[..., before],
        image=None if image is None else image[:, before],
        cache=cache,
    )
    with eager(model):
        last = model.decode(
            embeds[:, -1:],
            inputs.mask,
            inputs.positions[..., -1:],
            cache=cache,
            output_attentions=True,
        )
    return torch.stack([layer[:, :, -1].float().mean(1) for layer in last.attentions], 1)


def segments(model: VisionLanguageModel, moment: Moment) -> Tensor:
    """Segment of each token of a chat, ``[L]``, as an index into `SEGMENTS`.

    The tokens of the description are those in which the chat differs from the marked chat.
    """
    inputs = model.encode([moment.chat])
    segment_of = torch.full_like(inputs.ids[0], SEGMENTS.index("rest"))
    if moment.marked is not None:
        marked = model.encode([moment.marked]).ids[0].tolist()
        start, stop = differing(inputs.ids[0].tolist(), marked)
        segment_of[start:stop] = SEGMENTS.index("description")
    segment_of[inputs.image[0]] = SEGMENTS.index("image")
    return segment_of


def shared_out(
    attention: Tensor, segment: Tensor, count: int = len(SEGMENTS)
) -> tuple[Tensor, Tensor]:
    """Attention ``[K, L]`` summed over each of S segments, and the number of their tokens.

    Args:
        attention: attention of K layers to L tokens.
        segment: number of the segment of each token ``[L]``.
        count: S.

    Returns:
        ``[K, S]`` and ``[S]``.
    """
    members = [segment == place for place in range(count)]
    # No matrix product: under mixed precision it would run in half precision.
    shares = torch.stack([attention[:, member].sum(1) for member in members], 1)
    return shares, torch.stack([member.sum() for member in members])


@torch.no_grad()
def attention(model: VisionLanguageModel, readout: Readout, batches: Iterable[Batch]) -> Attention:
    """Attention from the position that predicts the quality word, over all samples.

    Args:
        model: model with its weights.
        readout: readout whose answers name a quality word.
        batches: batches of samples.

    Raises:
        InputError: if no answer has a quality word.
    """
    looks: list[Look] = []
    for batch in batches:
        states = moments(model, readout, batch)
        assert isinstance(readout, WordReadout | GeneratedWord)
        for start in range(0, len(states), readout.at_once):
            looks += _looks(model, batch, states[start : start + readout.at_once])
    if not looks:
        raise InputError(
            "no answer has a quality word, so there is no position to measure at: take more "
            "samples with --samples, or another readout with --condition"
        )
    return Attention.of(looks)


def _looks(model: VisionLanguageModel, batch: Batch, some: Sequence[Moment]) -> list[Look]:
    inputs = model.encode([moment.chat for moment in some]).to(model.device)
    weights = model(last_attention, inputs).cpu()
    looks = []
    for moment, padded in zip(some, weights, strict=True):
        segment = segments(model, moment)
        row = padded[:, padded.shape[1] - len(segment) :]
        shares, tokens = shared_out(row, segment)
        image = row[:, segment == SEGMENTS.index("image")]
        looks.append(Look(who(batch, moment.row), shares, tokens, image))
    return looks


def write_attention(folder: Path, result: Attention) -> None:
    """Write ``attention.csv``, ``attention_samples.csv`` and, if any, the image tokens."""
    layers: list[object] = [*range(1, len(result.mean)), MEAN]
    tables = result.tokens.expand_as(result.mean), result.mean, result.sd, result.times_uniform
    lines: list[Sequence[object]] = [
        (layer, name, *(float(table[k, s]) for table in tables))
        for k, layer in enumerate(layers)
        for s, name in enumerate(SEGMENTS)
    ]
    columns = ("layer", "segment", "tokens", "share_mean", "share_sd", "times_uniform")
    write_csv(folder / "attention.csv", columns, lines)
    lines = [
        (*look.who, which, *look.tokens.tolist(), *shares.tolist())
        for look in result.looks
        for which, shares in ((MEAN, look.shares.mean(0)), (LAST, look.shares[-1]))
    ]
    counts = (f"{segment}_tokens" for segment in SEGMENTS)
    header = (*COLUMNS, "layers", *counts, *SEGMENTS)
    write_csv(folder / "attention_samples.csv", header, lines)
    if result.image_samples:
        pairs = zip(result.image[-1].tolist(), result.image[-2].tolist(), strict=True)
        lines = [(place, *pair) for place, pair in enumerate(pairs, 1)]
        write_csv(folder / "attention_image_tokens.csv", ("token", MEAN, LAST), lines)
