"""Memory, time and their ratio over batch sizes, as in figure 6 of Reasoning as Representation."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lit_biqa.analysis.efficiency import MODEL, SCORER, Cost, ratios
from lit_biqa.analysis.figures import blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINES = {
    SCORER: {"color": "#1b4f72", "marker": "o", "linestyle": "-"},
    MODEL: {"color": "#ca6f1e", "marker": "s", "linestyle": "--"},
}


def efficiency_figure(costs: Sequence[Cost], model: str, where: str) -> Figure:
    """Memory, seconds per image, and scorer / model in percent, over the batch size."""
    from matplotlib.ticker import LogLocator

    figure = blank_figure(12.5, 4.4)
    memory, seconds, share = figure.subplots(1, 3)
    for name, look in _LINES.items():
        mine = [cost for cost in costs if cost.name == name]
        sizes = [cost.batch for cost in mine]
        label = f"{name} ({_count(mine[0].parameters)} parameters)"
        memory.plot(sizes, [cost.memory for cost in mine], label=label, **look)
        medians = [statistics.median(cost.seconds) for cost in mine]
        low = [m - min(c.seconds) for m, c in zip(medians, mine, strict=True)]
        high = [max(c.seconds) - m for m, c in zip(medians, mine, strict=True)]
        seconds.errorbar(sizes, medians, (low, high), capsize=3, label=label, **look)
    compared = ratios(costs)
    sizes = [ratio.batch for ratio in compared]
    share.plot(sizes, [100 * r.memory for r in compared], "o-", color="0.1", label="memory")
    share.plot(sizes, [100 * r.time for r in compared], "s--", color="0.45", label="time per image")
    parameters = 100 * compared[0].parameters
    share.axhline(parameters, color="0.6", linestyle=":", label="parameters")
    for axes in (memory, seconds, share):
        _sizes(axes, sizes)
    for axes in (seconds, share):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes.yaxis.set_minor_formatter("{x:g}")
    memory.set_ylim(bottom=0)
    memory.set(ylabel="weights and peak of a run (GiB)", title="memory")
    seconds.set(ylabel="seconds per image", title="time, median and range")
    share.set(ylabel="scorer / reasoning model (%)", title="ratio")
    share.legend(fontsize="small")
    figure.legend(*memory.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    last = compared[-1]
    figure.suptitle(
        f"A scorer beside {model}: at a batch of {last.batch} it takes {_percent(last.memory)} of "
        f"the memory,\n{_percent(last.time)} of the time and {_percent(last.parameters)} of the "
        f"parameters ({where}; {len(last.seconds)} runs each, in turns)",
        fontsize="medium",
    )
    return figure


def _sizes(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("images in a batch")
    axes.grid(color="0.9")


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.2f} million"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
