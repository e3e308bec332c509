"""Maps of feature spaces, coloured by data set and by MOS, with what linear probes read there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lit_biqa.analysis.figures import blank_figure
from lit_biqa.analysis.probes import Names, Probed
from lit_biqa.analysis.spaces import Reasoned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "o^sDvP*X"
_COLOURS = ("#1b4f72", "#f5b041", "#7b241c", "0.7", "#117a65", "#5b2c6f", "0.4", "#d98880")


def tsne_figure(measured: Sequence[Probed], results: Sequence[Reasoned], *models: str) -> Figure:
    """One column for each space: by data set if there are several, and by MOS."""
    sets = sorted({item.who.dataset for item in results})
    rows = 2 if len(sets) > 1 else 1
    figure = blank_figure(3.4 * len(measured) + 0.8, 3.7 * rows + 0.9)
    panels = np.atleast_2d(figure.subplots(rows, len(measured), squeeze=False))
    names = np.array([item.who.dataset for item in results])
    mos = np.array([item.mos for item in results])
    for column, space in enumerate(measured):
        x, y = space.map.T
        if rows == 2:
            _by_set(panels[0, column], space, names, sets)
        shown = panels[-1, column].scatter(x, y, 9, mos, cmap="cividis", vmin=1, vmax=5)
        across = f", from other sets {space.across:.2f}" if rows == 2 else ""
        top = "" if rows == 2 else _named(space)
        panels[-1, column].set_title(
            f"{top}MOS ranked: SRCC {space.within:.2f}{across}", fontsize="small"
        )
    for panel in panels.flat:
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set(xlabel="t-SNE 1", ylabel="t-SNE 2")
    figure.colorbar(shown, ax=panels[-1].tolist(), label="MOS (1 to 5)", pad=0.01)
    if rows == 2:
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(sets))
    leaking = sum(item.leaks for item in results)
    whose = "its" if len(models) == 1 else "their"
    figure.suptitle(
        f"{' and '.join(models)}: images and {whose} reasonings about them (n = {len(results)}; "
        f"{leaking} reasonings name a rating)\n"
        "each panel's numbers come from 5-fold linear probes, not from the map",
        fontsize="medium",
    )
    return figure


def _by_set(axes: Axes, space: Probed, names: Names, sets: Sequence[str]) -> None:
    for place, one in enumerate(sets):
        x, y = space.map[names == one].T
        style = place % len(_MARKERS)
        colour, marker = _COLOURS[style], _MARKERS[style]
        axes.scatter(x, y, 12, colour, marker=marker, edgecolors="0.2", linewidths=0.3, label=one)
    axes.set_title(
        f"{_named(space)}data sets told apart: {100 * space.told_apart:.0f}% "
        f"(chance {100 * space.chance:.0f}%)",
        fontsize="small",
    )


def _named(space: Probed) -> str:
    return f"{space.name} ({space.dimensions} numbers)\n"
