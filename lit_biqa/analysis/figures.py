"""Figures of the studies, each readable without its paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lit_biqa.analysis.accuracy import Accuracy
from lit_biqa.analysis.attention import SEGMENTS, Attention
from lit_biqa.analysis.instability import NONE, Instability, Spread
from lit_biqa.analysis.logit_lens import TOP, Lens
from lit_biqa.evaluation.bootstrap import Array
from lit_biqa.io.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 8  # number of tokens shown by the logit lens
DOMINANT = 5  # number of image tokens marked; the paper finds as many
COLOURS = dict(zip(SEGMENTS, ("C0", "C1", "0.55"), strict=True))


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with replacing(path) as part:
        figure.savefig(part, format="png")


def instability_figure(
    results: Sequence[Instability], sessions: int, predictions: int, temperature: float, model: str
) -> Figure:
    """Three shares for each data set, with their deviation over the sessions."""
    figure = blank_figure(3.5 + 1.6 * len(results), 4.4)
    axes = figure.subplots()
    kinds = {
        "predictions off the sample's most frequent level, or naming none": "unstable",
        "samples with any such prediction": "disagreement",
        "predictions naming no level": "no_level",
    }
    for place, (label, name) in enumerate(kinds.items()):
        spreads: list[Spread] = [getattr(item, name) for item in results]
        at = np.arange(len(results)) + 0.27 * (place - 1)
        heights = [100 * spread.mean for spread in spreads]
        errors = [100 * np.nan_to_num(spread.sd) for spread in spreads]
        bars = axes.bar(at, heights, 0.25, yerr=errors, capsize=3, label=label)
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize="small")
    axes.set_xticks(range(len(results)), [f"{e.dataset}\nn = {e.samples}" for e in results])
    axes.margins(y=0.1)
    axes.set(ylabel="share (%)", xlim=(-0.6, len(results) - 0.4))
    axes.set_ylim(bottom=0)
    drawn = f"{predictions} predictions per image, drawn at temperature {temperature:g}"
    spread = f"mean ± sd over {sessions} sessions" if sessions > 1 else "one session"
    figure.suptitle(f"How often {model} contradicts itself\n{drawn},\n{spread}", fontsize="medium")
    figure.legend(loc="outside lower center", fontsize="small")
    return figure


def confusion_figure(results: Sequence[Accuracy], model: str) -> Figure:
    """Confusion of named level and level of the MOS, for each set of levels side by side."""
    figure = blank_figure(5.4 * len(results), 5.2)
    for axes, result in zip(np.atleast_1d(figure.subplots(1, len(results))), results, strict=True):
        names = [*result.levels, NONE]
        counts = np.array([[result.confusion.get((t, n), 0) for n in names] for t in result.levels])
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        cells = [
            [f"{100 * s:.0f}%\n{c}" if c else "" for s, c in zip(*row, strict=True)]
            for row in zip(share, counts, strict=True)
        ]
        _table(axes, share, cells)
        axes.set_xticks(range(len(names)), [*result.levels, "none"])
        axes.set_yticks(range(len(result.levels)), result.levels)
        axes.set(xlabel="level that the model named", ylabel="level of the MOS")
        axes.set_title(
            f"{len(result.levels)} levels: {result.right} right\n"
            f"always naming the most frequent: {100 * result.majority:.2f}%",
            fontsize="medium",
        )
    samples, name = results[0].samples, results[0].dataset
    figure.suptitle(f"{model}: quality words against MOS ({name}, n = {samples} images)")
    figure.supxlabel(
        "cells: share of the row, and predictions in all sessions together", fontsize="small"
    )
    return figure


def lens_figure(lens: Lens, norm: bool, model: str) -> Figure:
    """Tokens by layer: how often a token is among the likeliest, and its probability."""
    tokens = lens.likeliest[:SHOWN]
    labels = [lens.names[t] if lens.names[t].isascii() else f"#{t}" for t in tokens]
    layers = [str(layer) for layer in lens.layers]
    layers[-1] += "\n(output)"
    figure = blank_figure(max(7.5, 3.5 + 1.5 * len(layers)), 1.9 + 0.42 * len(tokens))
    titles = (f"samples with the token among\nthe {TOP} likeliest", "mean probability")
    for axes, title, table in zip(
        figure.subplots(1, 2, sharey=True), titles, (lens.among, lens.probability), strict=True
    ):
        share = table[:, tokens].T.numpy()
        _table(axes, share, [[f"{100 * value:.0f}" for value in row] for row in share])
        axes.set_xticks(range(len(layers)), layers)
        axes.set_yticks(range(len(labels)), [label.replace("$", r"\$") for label in labels])
        axes.set_xlabel("layer")
        axes.set_title(f"{title} (%)", fontsize="medium")
    figure.axes[0].set_ylabel("token")
    how = "through the final norm" if norm else "without the final norm"
    figure.suptitle(
        f"{model}: the likeliest tokens at each layer, in place of the quality word\n"
        f"n = {len(lens.samples)} images predicted “{lens.level}”, read {how}",
        fontsize="medium",
    )
    return figure


def attention_figure(result: Attention, model: str) -> Figure:
    """Attention to image, description and rest, by layer and combined."""
    figure = blank_figure(12.5, 4.4)
    by_layer, together, ratio = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    there = [s for s, tokens in enumerate(result.tokens.tolist()) if tokens]
    layers = range(1, len(result.mean))
    for place, s in enumerate(there):
        name, colour = SEGMENTS[s], COLOURS[SEGMENTS[s]]
        label = f"{name} ({float(result.tokens[s]):.0f} tokens)"
        mean, sd = (100 * t[:-1, s].numpy() for t in (result.mean, result.sd.nan_to_num()))
        by_layer.plot(layers, mean, color=colour, marker="o", markersize=3, label=label)
        by_layer.fill_between(layers, mean - sd, mean + sd, color=colour, alpha=0.15)
        at = np.arange(2) + 0.27 * (place - (len(there) - 1) / 2)
        for axes, table, scale in ((together, result.mean, 100), (ratio, result.times_uniform, 1)):
            heights = [scale * float(table[k, s]) for k in (-1, -2)]
            bars = axes.bar(at, heights, 0.25, color=colour)
            axes.bar_label(bars, fmt="%.1f" if scale == 100 else "%.2f", fontsize="small")
    by_layer.set(xlabel="layer", ylabel="share of the attention (%)", ylim=(0, 100))
    by_layer.set_title("by layer, band: sd over images", fontsize="medium")
    by_layer.xaxis.get_major_locator().set_params(integer=True)
    by_layer.legend(fontsize="small")
    ratio.axhline(1, color="0.2", linestyle="--", linewidth=1)
    together.set_ylabel("share of the attention (%)")
    together.set_title("whole segments", fontsize="medium")
    ratio.set_ylabel("attention of a token / mean of all tokens")
    ratio.set_title("per token", fontsize="medium")
    for axes in (together, ratio):
        axes.set_xticks((0, 1), ("mean of\nall layers", "last layer"))
        axes.margins(y=0.1)
    figure.suptitle(
        f"{model}: attention as it names the quality\n"
        f"attention from the position that predicts the quality word, mean over heads and "
        f"n = {len(result.looks)} images",
        fontsize="medium",
    )
    return figure


def image_tokens_figure(result: Attention, model: str) -> Figure:
    """Attention to each image token, with the dominant ones marked."""
    figure = blank_figure(9.0, 5.4)
    count = result.image.shape[1]
    rows = (("mean of all layers", result.image[-1]), ("last layer", result.image[-2]))
    for axes, (title, row) in zip(figure.subplots(2, 1, sharex=True), rows, strict=True):
        best = row.topk(min(DOMINANT, count)).indices
        heights = 100 * row.numpy()
        colours = ["C3" if place in best.tolist() else "C0" for place in range(count)]
        axes.bar(range(1, count + 1), heights, 0.85, color=colours)
        for place in best.tolist():
            axes.annotate(
                str(place + 1), (place + 1, heights[place]), ha="center", va="bottom", fontsize=8
            )
        part = float(row[best].sum() / row.sum())
        axes.axhline(float(heights.mean()), color="0.2", linestyle="--", linewidth=1)
        axes.set_title(
            f"{title}: the {len(best)} strongest (red) hold {100 * part:.0f}% of the attention "
            f"to the image, {100 * float(row[best].sum()):.1f}% of all",
            fontsize="medium",
        )
        axes.set_ylabel("share of all\nattention (%)")
        axes.margins(y=0.15)
    figure.axes[-1].set_xlabel(f"image token, 1 to {count} (dashed: their mean)")
    figure.suptitle(
        f"{model}: attention to image tokens as it names the quality\n"
        f"mean over heads and n = {result.image_samples} images with {count} image tokens",
        fontsize="medium",
    )
    return figure


def blank_figure(width: float, height: float) -> Figure:
    """Empty figure, in inches, that no display is needed for."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _table(axes: Axes, share: Array, cells: Sequence[Sequence[str]]) -> None:
    """Cells shaded by share, each with its text."""
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    for (row, column), value in np.ndenumerate(share):
        colour = "white" if value > 0.55 else "black"
        text = cells[row][column]
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize="small")
