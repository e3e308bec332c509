"""Logit lens: the tokens that a model would predict from an earlier layer.

Source: Building Reasonable Inference for VLMs in BIQA, section 4.3 and figure 6. The paper does not
say whether it applies the final norm between a layer and the head; this module applies it by
default.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lit_biqa.analysis.answer_states import Moment, moments
from lit_biqa.analysis.csv_rows import COLUMNS, Who, who
from lit_biqa.backbones.inputs import Inputs
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.evaluation.report import write_csv
from lit_biqa.readouts.base import Readout
from lit_biqa.readouts.levels import GeneratedWord, WordReadout
from lit_biqa.readouts.words import in_chunks
from lit_biqa.types import Batch, InputError

TOP = 4  # candidates of each layer
FIRST = 30  # first layer in the paper, of 32
LEAST = 3  # least number of layers


@dataclass(frozen=True)
class Candidates:
    """Likeliest tokens of one sample.

    Attributes:
        who: the sample.
        tokens: the `TOP` likeliest tokens of each layer, ``[K][TOP]``.
        probabilities: their probabilities, ``[K][TOP]``.
    """

    who: Who
    tokens: list[list[int]]
    probabilities: list[list[float]]


@dataclass(frozen=True)
class Lens:
    """Predictions of K layers, over the samples that are predicted at one level.

    Attributes:
        level: predicted level of the samples.
        layers: numbers of the layers, from 1; the last is the output.
        samples: candidates of each sample.
        first: share of samples in which a token is the likeliest, ``[K, V]``.
        among: share of samples in which it is one of the `TOP` likeliest, ``[K, V]``.
        probability: probability of a token, mean over the samples, ``[K, V]``.
        names: display name of each token that is a candidate anywhere.
    """

    level: str
    layers: list[int]
    samples: list[Candidates]
    first: Tensor
    among: Tensor
    probability: Tensor
    names: dict[int, str]

    @property
    def likeliest(self) -> list[int]:
        """All candidates, in the order of their highest probability in any layer."""
        best = self.probability.amax(0)
        return sorted(self.names, key=lambda token: -float(best[token]))


def deep_layers(count: int, first: int | None = None) -> list[int]:
    """Numbers of the layers to read, of a decoder of ``count`` layers.

    Layers from the 30th on if these are three or more; of a smaller decoder the last tenth, at
    least three. ``first`` overrides the choice.

    Raises:
        InputError: if there is no such layer.
    """
    if first is None:
        few = min(count, max(LEAST, math.ceil(count / 10)))
        first = FIRST if count - FIRST + 1 >= LEAST else count - few + 1
    if not 1 <= first <= count:
        raise InputError(f"there is no layer {first}: the decoder has {count} layers")
    return list(range(first, count + 1))


def layer_logits(
    model: VisionLanguageModel, inputs: Inputs, layers: Sequence[int], norm: bool
) -> Tensor:
    """Logits after the last token of each row, read at K layers and at the output.

    Args:
        model: called inside ``model(work, ...)``.
        inputs: padded on the left.
        layers: numbers of the layers, from 1; the last is the decoder's last layer.
        norm: true to apply the final norm between a layer and the head.

    Returns:
        ``[B, K + 1, V]``.
    """
    last: list[Tensor] = []
    # Of the states that transformers returns, the last layer's is already normed.
    hook = model.final_norm.register_forward_pre_hook(
        lambda _, arguments: last.append(arguments[0])
    )
    try:
        out = model.hidden(inputs, output_hidden_states=True)
    finally:
        hook.remove()
    deep = [*(out.hidden_states[layer] for layer in layers[:-1]), last[0]]
    states = torch.stack([state[:, -1] for state in deep], 1)
    states = model.final_norm(states) if norm else states
    logits: Tensor = model.head(torch.cat([states, out.last_hidden_state[:, -1:]], 1))
    return logits.float()


@torch.no_grad()
def lens(
    model: VisionLanguageModel,
    readout: Readout,
    batches: Iterable[Batch],
    level: str,
    first: int | None = None,
    norm: bool = True,
    most: int | None = None,
) -> Lens:
    """Read the deep layers at the position that predicts the quality word.

    Args:
        model: model with its weights.
        readout: readout whose answers name a quality word.
        batches: batches of samples.
        level: only samples predicted at this level count.
        first: first layer, see `deep_layers`.
        norm: see `layer_logits`.
        most: number of samples at this level after which to stop; ``None`` for all.

    Raises:
        InputError: if no sample is predicted at this level.
    """
    layers = deep_layers(model.model.config.get_text_config().num_hidden_layers, first)
    samples: list[Candidates] = []
    predicted: Counter[str] = Counter()
    sums = torch.zeros(3, len(layers), model.head.weight.shape[0])
    for batch in batches:
        states = moments(model, readout, batch)
        if not states:
            continue
        logits, levels = _read(model, readout, states, layers, norm)
        predicted.update(levels)
        selected = [place for place, named in enumerate(levels) if named == level]
        if most is not None:
            selected = selected[: most - len(samples)]
        probabilities = logits[selected].softmax(-1)
        sums += counted(probabilities)
        samples += _candidates(batch, [states[place].row for place in selected], probabilities)
        if len(samples) == most:
            break
    if not samples:
        raise InputError(_absent(level, predicted))
    shares = sums / len(samples)
    ids = shares[1].amax(0).nonzero()[:, 0].tolist()
    return Lens(level, layers, samples, shares[0], shares[1], shares[2], token_names(model, ids))


def _read(
    model: VisionLanguageModel,
    readout: Readout,
    states: Sequence[Moment],
    layers: Sequence[int],
    norm: bool,
) -> tuple[Tensor, list[str]]:
    """Logits ``[N, K, V]`` of the layers, and the predicted level of each chat."""
    assert isinstance(readout, WordReadout | GeneratedWord)
    chats = [moment.chat for moment in states]
    logits = in_chunks(
        model, chats, readout.at_once, lambda inputs: model(layer_logits, inputs, layers, norm)
    ).cpu()
    levels = [moment.level for moment in states]
    if isinstance(readout, WordReadout):
        names, tokens = list(readout.words.scores), readout.words.tokens(model)
        levels = [names[best] for best in logits[:, -1, tokens].argmax(1).tolist()]
    return logits[:, :-1], levels


def counted(probabilities: Tensor) -> Tensor:
    """Sums over samples ``[N, K, V]``: count as likeliest, count among the top, and probability.

    Returns:
        ``[3, K, V]``.
    """
    best = probabilities.topk(TOP).indices
    among = torch.zeros_like(probabilities).scatter_(2, best, 1.0)
    first = torch.zeros_like(probabilities).scatter_(2, best[..., :1], 1.0)
    return torch.stack([first.sum(0), among.sum(0), probabilities.sum(0)])


def token_names(model: VisionLanguageModel, ids: Sequence[int]) -> dict[int, str]:
    """Display names of tokens: the text, with the token id if that is ambiguous or unprintable."""
    texts = {token: model.text([token]).strip() for token in ids}
    plain = {token: text if text.isprintable() else "" for token, text in texts.items()}
    often = Counter(plain.values())
    return {
        token: text if text and often[text] == 1 and "\ufffd" not in text else f"{text} #{token}"
        for token, text in plain.items()
    }


def _candidates(batch: Batch, rows: Sequence[int], probabilities: Tensor) -> list[Candidates]:
    top = probabilities.topk(TOP)
    return [
        Candidates(who(batch, row), tokens, values)
        for row, tokens, values in zip(rows, top.indices.tolist(), top.values.tolist(), strict=True)
    ]


def _absent(level: str, predicted: Counter[str]) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in predicted.most_common())
    return (
        f"no sample was predicted {level!r} (predicted: {counts or 'no level at all'}): name "
        "another level with --level, or take more samples with --samples"
    )


def write_lens(folder: Path, result: Lens) -> None:
    """Write ``logit_lens.csv`` (tokens by layer) and ``logit_lens_samples.csv``."""
    lines: list[Sequence[object]] = []
    for place, layer in enumerate(result.layers):
        for token in result.likeliest:
            shares = (result.first, result.among, result.probability)
            values = (float(share[place, token]) for share in shares)
            lines.append((layer, token, result.names[token], *values))
    columns = ("layer", "token_id", "token", "first", "among_4", "probability")
    write_csv(folder / "logit_lens.csv", columns, lines)
    lines = []
    for sample in result.samples:
        by_layer = zip(result.layers, sample.tokens, sample.probabilities, strict=True)
        for layer, tokens, likely in by_layer:
            for rank, (token, value) in enumerate(zip(tokens, likely, strict=True), 1):
                lines.append((*sample.who, layer, rank, token, result.names[token], value))
    header = (*COLUMNS, "layer", "rank", "token_id", "token", "probability")
    write_csv(folder / "logit_lens_samples.csv", header, lines)
