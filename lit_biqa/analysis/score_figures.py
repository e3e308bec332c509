"""Figures of score attention and of the causes of a rating; hatches keep them readable in grey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lit_biqa.analysis.figures import blank_figure
from lit_biqa.analysis.score_attention import ALL, ScoreAttention, WordShare
from lit_biqa.analysis.score_causes import Effect
from lit_biqa.analysis.score_states import SEGMENTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 15  # words, as many as in Understanding Pure Textual Reasoning, figure 3
NAMES = dict(zip(SEGMENTS, ("image", "prompt", "caption", "reasoning", "tags, JSON"), strict=True))
_COLOURS = dict(zip(SEGMENTS, ("#1b4f72", "0.8", "#f5b041", "#ca6f1e", "0.55"), strict=True))
_HATCHES = dict(zip(SEGMENTS, ("", "", "//", "xx", ".."), strict=True))
_MARKERS = dict(zip(SEGMENTS, "osD^v", strict=True))


def score_attention_figure(result: ScoreAttention, model: str) -> Figure:
    """Attention to each segment: by layer, combined, and per token."""
    figure = blank_figure(13, 4.8)
    by_layer, together, ratio = figure.subplots(1, 3, width_ratios=(1.4, 1.1, 1.1))
    there = [s for s, tokens in enumerate(result.tokens.tolist()) if tokens]
    mean, layers = result.mean[ALL], range(1, len(result.mean[ALL]))
    for place, s in enumerate(there):
        name = SEGMENTS[s]
        label = f"{NAMES[name]} ({float(result.tokens[s]):.0f} tokens)"
        line = {"color": _COLOURS[name], "marker": _MARKERS[name], "markeredgecolor": "0.2"}
        by_layer.plot(layers, 100 * mean[:-1, s].numpy(), label=label, **line)
        at = np.arange(2) + 0.85 / len(there) * (place - (len(there) - 1) / 2)
        for axes, table, scale in (
            (together, mean, 100),
            (ratio, result.times_uniform[ALL], 1),
        ):
            heights = [scale * float(table[k, s]) for k in (-1, -2)]
            bars = axes.bar(at, heights, 0.8 / len(there), **_bar(name))
            axes.bar_label(bars, fmt="%.0f" if scale == 100 else "%.1f", fontsize="small")
    by_layer.set(xlabel="layer", ylabel="share of the attention (%)", ylim=(0, 100))
    by_layer.set_title("by layer", fontsize="medium")
    by_layer.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(loc="outside lower center", ncols=len(there), fontsize="small")
    together.set_ylabel("share of the attention (%)")
    together.set_title("whole segments", fontsize="medium")
    ratio.axhline(1, color="0.2", linestyle="--", linewidth=1)
    ratio.set_ylabel("attention to a token / mean token")
    ratio.set_title("per token", fontsize="medium")
    for axes in (together, ratio):
        axes.set_xticks((0, 1), ("mean of\nall layers", "last layer"))
        axes.margins(y=0.1)
    parts = [f"{100 * result.of_text(row):.0f}%" for row in (-1, -2)]
    figure.suptitle(
        f"{model}: attention as it writes the digits of its rating (n = {len(result.looks)} "
        f"images)\nof what goes to image and written text, the text gets {parts[0]} (mean of all "
        f"layers), {parts[1]} (last layer)",
        fontsize="medium",
    )
    return figure


def _bar(name: str) -> dict[str, str | float]:
    hatch = _HATCHES[name]
    return {"color": _COLOURS[name], "hatch": hatch, "edgecolor": "0.2", "linewidth": 0.5}


def words_figure(words: Sequence[WordShare], images: int, model: str) -> Figure:
    """Words of captions and reasonings with the most attention."""
    shown = list(words[:SHOWN])
    figure = blank_figure(9.5, 1.9 + 0.28 * len(shown))
    total, each = figure.subplots(1, 2, sharey=True)
    at = np.arange(len(shown))
    for axes, heights, form in (
        (total, [100 * word.mean for word in shown], "%.1f"),
        (each, [word.times_uniform for word in shown], "%.2f"),
    ):
        bars = axes.barh(at, heights, 0.75, color="#1b4f72")
        clear = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axes.bar_label(bars, fmt=form, padding=3, fontsize="small", bbox=clear)
        axes.margins(x=0.15)
    total.set_yticks(at, [f"{w.word} ({w.count})".replace("$", r"\$") for w in shown])
    total.invert_yaxis()
    total.set(xlabel="part of the attention to all words (%)", ylabel="word (occurrences)")
    each.set_xlabel("attention to an occurrence / mean word")
    each.axvline(1, color="0.2", linestyle="--", linewidth=1, zorder=0)
    most = f"“{shown[0].word}” gets most" if shown else "no words"
    figure.suptitle(
        f"{model}: words that get attention as it writes its rating: {most}\n"
        f"mean of all layers, n = {images} images; function words left out",
        fontsize="medium",
    )
    return figure


def causes_figure(effects: Sequence[Effect], images: int, model: str) -> Figure:
    """How far each change moves the rating, what it does to PLCC, and whom the rating follows."""
    figure = blank_figure(13, 4.4)
    moved, mos, follows = figure.subplots(1, 3, width_ratios=(1.2, 1.3, 1))
    changes = effects[1:]
    errors = np.array([(e.moved - e.low, e.high - e.moved) for e in changes]).T
    heights = [e.moved for e in changes]
    bars = moved.bar(range(len(changes)), heights, 0.6, yerr=errors, capsize=4, color="#1b4f72")
    moved.bar_label(bars, fmt="%.2f", padding=2)
    moved.set_xticks(range(len(changes)), [e.change.replace(" ", "\n") for e in changes])
    moved.set_ylabel("mean |change| of the rating (MOS units)")
    moved.set_title("how far the rating moves (95% interval)", fontsize="medium")
    _heights(mos, [e.mos for e in effects])
    mos.set_xticks(
        range(len(effects)), ["both\nas they are", *(e.change.replace(" ", "\n") for e in changes)]
    )
    mos.set_ylabel("PLCC of the rating with MOS")
    mos.set_title("how good it stays", fontsize="medium")
    swapped = [e for e in changes if e.change.startswith("other")]
    at = np.arange(len(swapped))
    image = [e.donor if "image" in e.change else e.own for e in swapped]
    text = [e.own if "image" in e.change else e.donor for e in swapped]
    sides = ((image, "the image's", "image"), (text, "the text's", "reasoning"))
    for side, (values, label, style) in enumerate(sides):
        shown = np.nan_to_num(values)
        bars = follows.bar(at + 0.38 * (side - 0.5), shown, 0.36, label=label, **_bar(style))
        follows.bar_label(bars, [_said(v) for v in values], padding=2)
    follows.set_xticks(at, [e.change for e in swapped])
    follows.set_ylabel("PLCC with the whole rating of this sample")
    follows.set_title("whose rating it follows when exchanged", fontsize="medium")
    for axes in (moved, mos, follows):
        axes.margins(y=0.15)
    follows.set_ylim(top=1.35)
    follows.legend(loc="upper center", ncols=2, fontsize="small")
    gone = {e.change: e.moved for e in effects}
    figure.suptitle(
        f"{model}: what moves its rating (n = {images} images)\nwithout its image by "
        f"{gone['no image']:.2f}, without its text by {gone['no text']:.2f}; with another's image "
        f"by {gone['other image']:.2f}, with another's text by {gone['other text']:.2f} MOS units",
        fontsize="medium",
    )
    return figure


def _heights(axes: Axes, values: Sequence[float]) -> None:
    bars = axes.bar(range(len(values)), np.nan_to_num(values), 0.6, color="0.6", edgecolor="0.2")
    axes.bar_label(bars, [_said(v) for v in values], padding=2)
    axes.axhline(0, color="0.2", linewidth=0.8)


def _said(value: float) -> str:
    return "none" if np.isnan(value) else f"{value:.2f}"
