"""Charts of a page, as Vega-Lite made by Altair.

A chart names the tables that it is drawn from, and the page holds each table once. Charts with
parameters of `FILTERS` follow the page's filters; an empty parameter lets all rows through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import altair as alt

FILTERS = {
    "dataset": "Data set",
    "condition": "Condition",
    "weights": "Weights",
    "run": "Run",
    "group": "Group",
}
"""Columns that the rows of a page are filtered by, and what the page calls them."""
_OF_ROWS = ("dataset", "condition", "weights", "group")
IMAGE_FIELDS = ("name", "group", "image", "size", "megapixels")
MOST_GROUPS = 30
"""Groups shown, those with the largest mean errors."""
_ROW = 20  # pixels of a row of bars
ERROR = alt.Y("error:Q", title="score − MOS")
POINTED = [
    *("image:N", "name:N"),
    *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("mos", "score")),
    alt.Tooltip("error:Q", format="+.2f"),
    *("group:N", "size:N", "dataset:N"),
]
"""Shown under the pointer; a field named ``image`` is shown as a picture."""


@dataclass(frozen=True)
class Chart:
    """A chart of a page.

    Attributes:
        name: identifier within the page.
        title: what it shows, in a few words.
        spec: Vega-Lite specification without data.
        tables: names of the tables that it is drawn from.
        note: how to read it.
    """

    name: str
    title: str
    spec: dict[str, Any]
    tables: tuple[str, ...]
    note: str = ""


def scatter(sets: int = 1) -> Chart:
    """MOS over predicted score of so many data sets, with the line of equality and the logistic."""
    several = alt.Color("dataset:N", legend=alt.Legend(orient="top", title=None, columns=1))
    colour = several if sets > 1 else alt.Undefined
    points = (
        _filtered(_images(alt.Chart(_table("rows"))), *_OF_ROWS)
        .mark_circle(size=45, opacity=0.55)
        .encode(
            _rating(alt.X, "score", "predicted score"),
            _rating(alt.Y, "mos", "MOS"),
            color=colour,
            tooltip=POINTED,
        )
    )
    fitted = (
        _filtered(alt.Chart(_table("fits")), "dataset", "condition", "weights")
        .mark_line(color="#d9822b", strokeWidth=2)
        .encode(
            x="score:Q",
            y="mos:Q",
            color=colour,
            detail=["dataset:N", "condition:N", "weights:N"],
            order="score:Q",
        )
    )
    layers = alt.layer(_diagonal("score", "mos"), fitted, points)
    line = "Lines" if sets > 1 else "Orange"
    note = f"Dashed: score equal to MOS. {line}: the logistic fitted for “PLCC fitted”."
    tables = ("rows", "images", "fits")
    return _chart("scatter", "MOS and predicted score", layers, tables, note, height=440)


def error_by_mos() -> Chart:
    """Error of each image over its MOS, with the mean error by MOS."""
    rows = _filtered(_images(alt.Chart(_table("rows"))), *_OF_ROWS)
    points = rows.mark_circle(size=30, opacity=0.35).encode(
        _rating(alt.X, "mos", "MOS"), ERROR, tooltip=POINTED
    )
    mean = rows.mark_line(color="#d9822b", point=True).encode(
        alt.X("mos:Q", bin=alt.Bin(step=0.5)), alt.Y("mean(error):Q", title="score − MOS")
    )
    note = "Above zero: rated too high. Orange: mean error of each half of a MOS point."
    return _chart(
        "error_by_mos",
        "Error against MOS",
        alt.layer(_zero("y"), points, mean),
        ("rows", "images"),
        note,
        height=440,
    )


def error_by_group(count: int) -> Chart:
    """Median and middle half of the errors in each of so many groups."""
    groups = (
        _filtered(_images(alt.Chart(_table("rows"))), *_OF_ROWS)
        .transform_filter("datum.group != ''")
        .transform_aggregate(
            low="q1(error)",
            median="median(error)",
            high="q3(error)",
            mean="mean(error)",
            count="count()",
            groupby=["group"],
        )
        .transform_calculate(size="abs(datum.mean)")
        .transform_window(place="row_number()", sort=[alt.SortField("size", order="descending")])
        .transform_filter(f"datum.place <= {MOST_GROUPS}")
    )
    order = alt.EncodingSortField("mean", order="descending")
    pointed = ["group:N", "count:Q", *(alt.Tooltip(f"{n}:Q", format="+.3f") for n in _QUARTILES)]
    y = alt.Y("group:N", sort=order, title=None, axis=alt.Axis(labelLimit=140))
    half = groups.mark_bar(height=7, opacity=0.45, cornerRadius=3).encode(
        alt.X("low:Q", title="score − MOS"), alt.X2("high"), y, tooltip=pointed
    )
    median = groups.mark_point(filled=True, size=70, opacity=1).encode(
        alt.X("median:Q", title="score − MOS"), y, tooltip=pointed
    )
    note = f"Dot: median; bar: middle half. By mean error, at most {MOST_GROUPS} groups."
    layers = alt.layer(_zero("x"), half, median)
    height = _ROW * min(count, MOST_GROUPS)
    tables = ("rows", "images")
    return _chart("error_by_group", "Error by group", layers, tables, note, height)


_QUARTILES = ("low", "median", "high", "mean")


def error_by_size() -> Chart:
    """Error of each image over the number of its pixels."""
    rows = _filtered(_images(alt.Chart(_table("rows"))), *_OF_ROWS)
    points = (
        rows.transform_filter("datum.megapixels > 0")
        .mark_circle(size=30, opacity=0.35)
        .encode(
            alt.X("megapixels:Q", scale=alt.Scale(type="log", nice=False, padding=12)),
            ERROR,
            tooltip=POINTED,
        )
    )
    layers = alt.layer(_zero("y"), points)
    note = "Pixels of the file, before the model's own scaling."
    tables = ("rows", "images")
    return _chart("error_by_size", "Error against image size", layers, tables, note, height=300)


def gap() -> Chart:
    """Scores read from texts over scores read from images."""
    pairs = _images(alt.Chart(_table("gaps"))).transform_calculate(gap="datum.seen - datum.read")
    pointed = [
        *("image:N", "name:N", "condition:N"),
        *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("mos", "seen", "read", "gap")),
    ]
    points = (
        _filtered(pairs, "dataset", "weights", "group")
        .mark_circle(size=45, opacity=0.55)
        .encode(
            _rating(alt.X, "seen", "score read from the image"),
            _rating(alt.Y, "read", "score read from the text"),
            alt.Color("condition:N", legend=alt.Legend(orient="top", title=None)),
            tooltip=pointed,
        )
    )
    layers = alt.layer(_diagonal("seen", "read"), points)
    note = "Below the dashed line: the text was rated lower than the image."
    return _chart("gap", "Image and text", layers, ("gaps", "images"), note, height=440)


def ranking() -> Chart:
    """Scores of images without MOS, from the lowest to the highest."""
    points = (
        _images(alt.Chart(_table("scored")))
        .transform_window(place="row_number()", sort=[alt.SortField("score")])
        .mark_circle(size=45, opacity=0.7)
        .encode(
            alt.X("place:Q", title="images, from the lowest score"),
            _rating(alt.Y, "score", "predicted score"),
            tooltip=["image:N", "name:N", alt.Tooltip("score:Q", format=".2f"), "size:N"],
        )
    )
    return _chart("ranking", "Scored images", points, ("scored", "images"), height=360)


def curves(name: str, title: str, note: str = "") -> Chart:
    """Logged values over optimizer steps, a line for each tag of the table ``name``."""
    lines = (
        alt.Chart(_table(name))
        .mark_line(point=alt.OverlayMarkDef(size=12), strokeWidth=1.5)
        .encode(
            alt.X("step:Q", title="optimizer step", axis=alt.Axis(format="d", tickMinStep=1)),
            alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
            alt.Color("tag:N", legend=alt.Legend(orient="top", title=None, columns=2)),
            tooltip=["tag:N", "step:Q", alt.Tooltip("value:Q", format=".4f")],
        )
    )
    return _chart(name, title, lines, (name,), note, height=280)


def word_attention(count: int) -> Chart:
    """Attention to each of so many words, per token, as the rating is written."""
    bars = (
        alt.Chart(_table("words"))
        .mark_bar(height=9, cornerRadius=3)
        .encode(
            alt.X("times_uniform:Q", title="attention, times that of an average token"),
            alt.Y("word:N", sort="-x", title=None),
            tooltip=["word:N", "count:Q", alt.Tooltip("times_uniform:Q", format=".2f")],
        )
    )
    return _chart("words", "Attention to words", bars, ("words",), height=_ROW * count)


def disagreement() -> Chart:
    """Errors of two runs on the same images."""
    points = (
        _filtered(_images(alt.Chart(_table("pairs"))), "dataset", "condition", "run", "group")
        .mark_circle(size=45, opacity=0.55)
        .encode(
            alt.X("first:Q", title="error of the first run"),
            alt.Y("other:Q", title="error of the other run"),
            alt.Color("run:N", legend=alt.Legend(orient="top", title=None, columns=2)),
            tooltip=[
                *("image:N", "name:N", "run:N"),
                *(alt.Tooltip(f"{n}:Q", format="+.2f") for n in ("mos", "first", "other")),
            ],
        )
    )
    layers = alt.layer(_zero("x"), _zero("y"), points)
    note = "Far from both axes: both runs are wrong. Near one axis: one run alone is."
    return _chart("disagreement", "Errors of both", layers, ("pairs", "images"), note, height=440)


def differences(count: int) -> Chart:
    """So many differences from the first run, with their intervals."""
    rows = alt.Chart(_table("differences"))
    y = alt.Y("label:N", sort=None, title=None, axis=alt.Axis(labelLimit=220))
    pointed = [
        *("label:N", "n:Q"),
        *(alt.Tooltip(f"{n}:Q", format="+.4f") for n in ("value", "low", "high", "p")),
    ]
    # Labels on the left leave a narrow screen little room.
    x = partial(alt.X, title="difference", axis=alt.Axis(tickCount=4, labelOverlap=True))
    interval = rows.mark_rule(strokeWidth=3, opacity=0.5).encode(
        x("low:Q"), alt.X2("high"), y, tooltip=pointed
    )
    point = rows.mark_point(filled=True, size=70, opacity=1).encode(
        x("value:Q"), y, tooltip=pointed
    )
    layers = alt.layer(_zero("x"), interval, point)
    return _chart("differences", "Differences", layers, ("differences",), height=_ROW * count)


def sizes(test: str) -> Chart:
    """Correlations of runs on a test over the numbers of their parameters."""
    # Grey is seen on either theme.
    metrics = alt.Legend(orient="top", title=None, symbolFillColor="#888", symbolStrokeColor="#888")
    scale, axis = alt.Scale(type="log", nice=False, padding=12), alt.Axis(format=".3~s")
    points = (
        alt.Chart(_table("sizes"))
        .mark_point(filled=True, size=90, opacity=1)
        .encode(
            alt.X("parameters:Q", scale=scale, axis=axis),
            alt.Y("value:Q", title="correlation", scale=alt.Scale(zero=False)),
            alt.Color("run:N", legend=alt.Legend(orient="top", title=None, columns=2)),
            alt.Shape("metric:N", legend=metrics),
            tooltip=[
                *("run:N", "metric:N"),
                alt.Tooltip("value:Q", format=".4f"),
                alt.Tooltip("parameters:Q", format=","),
            ],
        )
    )
    note = "Parameters: numbers in the weights that a fit ships. Runs without such have no point."
    return _chart("sizes", f"Correlation and parameters, {test}", points, ("sizes",), note)


def _chart(
    name: str,
    title: str,
    drawn: alt.Chart | alt.LayerChart | alt.FacetChart,
    tables: Sequence[str],
    note: str = "",
    height: int = 300,
) -> Chart:
    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    spec = drawn.properties(width="container", height=height, autosize=fit).to_dict()
    # The page gives each theme its own.
    del spec["config"], spec["$schema"]
    return Chart(name, title, spec, tuple(tables), note)


def _table(name: str) -> alt.NamedData:
    return alt.NamedData(name, format=alt.JsonDataFormat(type="json"))


def _images(chart: alt.Chart) -> alt.Chart:
    """Give each row what is known of its image, by the column ``key``."""
    known = alt.LookupData(_table("images"), key="key", fields=list(IMAGE_FIELDS))
    return chart.transform_lookup("key", from_=known)


def _filtered(chart: alt.Chart, *columns: str) -> alt.Chart:
    for column in columns:
        chosen = f"chosen_{column}"
        chart = chart.add_params(alt.param(name=chosen, value="")).transform_filter(
            f"{chosen} == '' || datum.{column} == {chosen}"
        )
    return chart


def _rating(channel: Any, field: str, title: str) -> Any:
    axis = alt.Axis(tickMinStep=0.5)
    return channel(f"{field}:Q", title=title, scale=alt.Scale(zero=False), axis=axis)


def _diagonal(x: str, y: str) -> alt.Chart:
    ends = alt.Chart(alt.InlineData([{x: end, y: end} for end in (1, 5)]))
    line: alt.Chart = ends.mark_line(color="#888", strokeDash=[5, 4], strokeWidth=1)
    return line.encode(x=f"{x}:Q", y=f"{y}:Q")


def _zero(channel: str) -> alt.Chart:
    line: alt.Chart = alt.Chart(alt.InlineData([{}])).mark_rule(color="#888")
    return line.encode(**{channel: alt.datum(0)})
