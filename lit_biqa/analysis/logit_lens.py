"""The logit lens: which words a model would say if it ended at an earlier layer.

Source: Building Reasonable Inference for VLMs in BIQA, section 4.3 and figure 6. The paper does
not say whether the final norm stands between a layer and the head; here it does unless left out.
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
from lit_biqa.backbones.vision_language import Inputs, VisionLanguageModel
from lit_biqa.evaluation.report import write_csv
from lit_biqa.readouts.base import Readout
from lit_biqa.readouts.levels import GeneratedWord, WordReadout
from lit_biqa.readouts.words import in_chunks
from lit_biqa.types import Batch, InputError

TOP = 4  # candidates of each layer
FIRST = 30  # layer that the paper begins with, of 32
LEAST = 3  # layers that are looked at


@dataclass(frozen=True)
class Candidates:
    """The likeliest tokens of one sample.

    Attributes:
        who: the sample.
        tokens: of each layer the `TOP` likeliest, ``[K][TOP]``.
        probabilities: theirs.
    """

    who: Who
    tokens: list[list[int]]
    probabilities: list[list[float]]


@dataclass(frozen=True)
class Lens:
    """What K layers would say, over the samples that are predicted at one level.

    Attributes:
        level: that the samples are predicted at.
        layers: their numbers, from 1; the last is the output.
        samples: each with its candidates.
        first: share of samples in which a token is the likeliest, ``[K, V]``.
        among: share in which it is one of the `TOP` likeliest.
        probability: of a token, mean over the samples.
        names: what tokens are shown as, of all that are candidates anywhere.
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
        """All candidates, the likeliest of any layer first."""
        best = self.probability.amax(0)
        return sorted(self.names, key=lambda token: -float(best[token]))


def deep_layers(count: int, first: int | None = None) -> list[int]:
    """Numbers of the layers to look at, of a decoder of ``count``.

    From the 30th where that leaves three or more; of a smaller decoder the last tenth, three at
    least. ``first`` says otherwise.

    Raises:
        InputError: if there is no such layer.
    """
    if first is None:
        few = min(count, max(LEAST, math.ceil(count / 10)))
        first = FIRST if count - FIRST + 1 >= LEAST else count - few + 1
    if not 1 <= first <= count:
        raise InputError(f"there is no layer {first}: the decoder has {count}")
    return list(range(first, count + 1))


def layer_logits(
    model: VisionLanguageModel, inputs: Inputs, layers: Sequence[int], norm: bool
) -> Tensor:
    """Logits after each row, read at K layers and then as the model says them.

    Args:
        model: within ``model(work, ...)``.
        inputs: padded on the left.
        layers: their numbers, from 1; the last is the decoder's last.
        norm: whether the final norm stands between a layer and the head.

    Returns:
        ``[B, K + 1, V]``.
    """
    last: list[Tensor] = []
    # Among the states that transformers hands out, the last layer's are normed already.
    hook = model.final_norm.register_forward_pre_hook(lambda _, given: last.append(given[0]))
    try:
        out = model.hidden(inputs, output_hidden_states=True)
    finally:
        hook.remove()
    deep = [*(out.hidden_states[layer] for layer in layers[:-1]), last[0]]
    states = torch.stack([each[:, -1] for each in deep], 1)
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
) -> Lens:
    """Read the deep layers where the quality word comes next.

    Args:
        model: with its weights.
        readout: that brings the model to a quality word.
        batches: of samples.
        level: samples are looked at that are predicted at it.
        first: layer to begin with, see `deep_layers`.
        norm: see `layer_logits`.

    Raises:
        InputError: if no sample is predicted at this level.
    """
    layers = deep_layers(model.model.config.get_text_config().num_hidden_layers, first)
    samples: list[Candidates] = []
    predicted: Counter[str] = Counter()
    sums = torch.zeros(3, len(layers), model.head.weight.shape[0])
    for batch in batches:
        found = moments(model, readout, batch)
        if not found:
            continue
        logits, levels = _read(model, readout, found, layers, norm)
        predicted.update(levels)
        kept = [place for place, each in enumerate(levels) if each == level]
        probabilities = logits[kept].softmax(-1)
        sums += counted(probabilities)
        samples += _candidates(batch, [found[place].row for place in kept], probabilities)
    if not samples:
        raise InputError(_absent(level, predicted))
    shares = sums / len(samples)
    ids = shares[1].amax(0).nonzero()[:, 0].tolist()
    return Lens(level, layers, samples, shares[0], shares[1], shares[2], token_names(model, ids))


def _read(
    model: VisionLanguageModel,
    readout: Readout,
    found: Sequence[Moment],
    layers: Sequence[int],
    norm: bool,
) -> tuple[Tensor, list[str]]:
    """Logits ``[N, K, V]`` of the layers, and the level that each moment comes to."""
    assert isinstance(readout, WordReadout | GeneratedWord)
    chats = [moment.chat for moment in found]
    logits = in_chunks(
        model, chats, readout.at_once, lambda inputs: model(layer_logits, inputs, layers, norm)
    ).cpu()
    levels = [moment.level for moment in found]
    if isinstance(readout, WordReadout):
        names, tokens = list(readout.words.scores), readout.words.tokens(model)
        levels = [names[best] for best in logits[:, -1, tokens].argmax(1).tolist()]
    return logits[:, :-1], levels


def counted(probabilities: Tensor) -> Tensor:
    """Sums over samples ``[N, K, V]``: how often first, how often in the top, and probability.

    Returns:
        ``[3, K, V]``.
    """
    best = probabilities.topk(TOP).indices
    among = torch.zeros_like(probabilities).scatter_(2, best, 1.0)
    first = torch.zeros_like(probabilities).scatter_(2, best[..., :1], 1.0)
    return torch.stack([first.sum(0), among.sum(0), probabilities.sum(0)])


def token_names(model: VisionLanguageModel, ids: Sequence[int]) -> dict[int, str]:
    """What to call tokens: their text, with their number where that is not plain or not alone."""
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
        "another with --level, or look at more samples with --samples"
    )


def write_lens(folder: Path, found: Lens) -> None:
    """Write ``logit_lens.csv``, tokens in each layer, and ``logit_lens_samples.csv``."""
    lines: list[Sequence[object]] = []
    for place, layer in enumerate(found.layers):
        for token in found.likeliest:
            shares = (found.first, found.among, found.probability)
            values = (float(share[place, token]) for share in shares)
            lines.append((layer, token, found.names[token], *values))
    columns = ("layer", "token_id", "token", "first", "among_4", "probability")
    write_csv(folder / "logit_lens.csv", columns, lines)
    lines = []
    for sample in found.samples:
        by_layer = zip(found.layers, sample.tokens, sample.probabilities, strict=True)
        for layer, tokens, likely in by_layer:
            for rank, (token, value) in enumerate(zip(tokens, likely, strict=True), 1):
                lines.append((*sample.who, layer, rank, token, found.names[token], value))
    header = (*COLUMNS, "layer", "rank", "token_id", "token", "probability")
    write_csv(folder / "logit_lens_samples.csv", header, lines)
