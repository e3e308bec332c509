"""Pages: sections of text, tables and charts as one HTML file that opens without a network."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import altair
import jinja2
import vl_convert

from lit_biqa.evaluation.grids import Grid
from lit_biqa.html_report.charts import FILTERS, Chart
from lit_biqa.io.cache import cache_root
from lit_biqa.io.files import whole

Table = Sequence[Mapping[str, Any]]
"""Rows of a chart, with columns by name."""

_TEMPLATES = Path(__file__).parent / "templates"
# Colours of words, lines and marks of a chart.
_THEMES = {"light": ("#1c2430", "#dfe3e8", "#2f6db5"), "dark": ("#e6eaf0", "#333c47", "#7fb2ef")}
_FONT = "system-ui, sans-serif"


@dataclass(frozen=True)
class Example:
    """An image with what was said of it.

    Attributes:
        uri: picture as a data URI; empty if there is none.
        name: file name.
        of: column of `FILTERS` -> its value, by which the page hides the example; no filter hides
            it by a column that is absent.
        lines: lines below the picture: kind (``over``, ``under`` or ``name``) and text.
        said: parts of the model's text: heading and text.
    """

    uri: str
    name: str
    of: Mapping[str, str]
    lines: Sequence[tuple[str, str]] = ()
    said: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Section:
    """A section of a page; what is empty is not shown.

    Attributes:
        title: heading.
        lines: notes below it.
        grids: tables of text.
        charts: charts.
        examples: rows of examples, each below a heading.
        folded: texts that open on a click, each below a heading.
    """

    title: str
    lines: Sequence[str] = ()
    grids: Sequence[Grid] = ()
    charts: Sequence[Chart] = ()
    examples: Sequence[tuple[str, Sequence[Example]]] = ()
    folded: Sequence[tuple[str, str]] = ()

    @property
    def is_empty(self) -> bool:
        """True if there is nothing below the heading."""
        return not any((self.lines, self.grids, self.charts, self.examples, self.folded))


@dataclass(frozen=True)
class Page:
    """Content of a page.

    Attributes:
        title: heading.
        subtitle: what it is a report of.
        sections: sections in their order; empty ones are left out.
        tables: rows of the charts by name.
        choices: column of `FILTERS` -> values to choose from.
        chosen: column of `FILTERS` -> value that is chosen at first; all rows without one.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
    tables: Mapping[str, Table]
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    chosen: Mapping[str, str] = field(default_factory=dict)


def choices_of(values: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """Choices of a page: sorted values of each column that has more than one."""
    return {column: sorted(found) for column, found in values.items() if len(found) > 1}


def render(page: Page) -> str:
    """HTML of a page.

    Names and texts are escaped wherever they stand, no script but the page's own can run, and
    nothing can be loaded: the page's policy names its scripts by their digests.
    """
    sections = [section for section in page.sections if not section.is_empty]
    charts = {chart.name: chart for section in sections for chart in section.charts}
    used = {name for chart in charts.values() for name in chart.tables}
    scripts = [bundle(), (_TEMPLATES / "page.js").read_text(encoding="utf-8")]
    return (
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            sections=sections,
            specs=data({name: {"spec": c.spec, "tables": c.tables} for name, c in charts.items()}),
            themes=data({name: _theme(*colours) for name, colours in _THEMES.items()}),
            tables={name: data(rows) for name, rows in page.tables.items() if name in used},
            filters=FILTERS,
            style=(_TEMPLATES / "page.css").read_text(encoding="utf-8"),
            scripts=scripts,
            digests=[_digest(script) for script in scripts],
        )
    )


def _theme(ink: str, line: str, mark: str) -> dict[str, Any]:
    """Configuration of charts in a theme of the page."""
    words = {"labelColor": ink, "titleColor": ink, "labelFont": _FONT, "titleFont": _FONT}
    return {
        "background": None,
        # Descriptions of each point for SVG, which take seconds; canvas has none.
        "aria": False,
        "mark": {"color": mark},
        "view": {"stroke": line},
        "axis": {**words, "gridColor": line, "domainColor": line, "tickColor": line},
        "legend": {**words, "labelLimit": 320},
        "header": words,
    }


def data(value: object) -> str:
    """JSON to be put into a ``script`` element as data; numbers that are not finite are null."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # Nothing within can end the element, or begin a comment in it.
    return text.replace("<", "\\u003c")


@cache
def bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script.

    It takes seconds to make, so it is kept in the cache folder under the versions of its makers.
    """
    name = f"vega-{version('altair')}-{version('vl-convert-python')}.js"
    file = cache_root() / "javascript" / name
    if file.is_file():
        return file.read_text(encoding="utf-8")
    vega_lite = altair.SCHEMA_VERSION.rpartition(".")[0]
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vega_lite)
    script = script.replace("</script", "<\\/script")
    with whole(file) as part:
        part.write_text(script, encoding="utf-8")
    return script


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(_TEMPLATES)
    return jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
