"""The site of docs/: links between pages, names in docstrings, and what a page may load."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "site"


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("index.md", "docs/score.md", "score.md"),
        ("index.md", "docs/reliability.md#promises", "reliability.md#promises"),
        ("index.md", "configs/rali", "recipes.md#rali"),
        ("index.md", "CONTRIBUTING.md", "contributing.md"),
        ("index.md", "docs/tour.ipynb", "tour.md"),
        ("data.md", "../docs/files-of-a-run.md#groups", "files-of-a-run.md#groups"),
        ("score.md", "../data/README.md", "data.md"),
        ("score.md", "python.md#score", "python.md#score"),
        ("reliability.md", "../lit_biqa/limits.py", "reference/limits.md"),
        ("reliability.md", "../lit_biqa/data/images.py", "reference/data.md"),
        ("results.md", "figures/tiny_score.png", "figures/tiny_score.png"),
        ("score.md", "https://example.org/a.md", "https://example.org/a.md"),
        ("score.md", "../setup.cfg", "../setup.cfg"),  # on no page: the build tells it
    ],
)
def test_links_to_files_become_links_to_pages(page: str, link: str, expected: str) -> None:
    links = importlib.import_module("site_links")
    text = "See [this]({}), and\n\n```\n[this](../data/README.md)\n```\n\nall [again]({}).\n"
    assert links.in_site(text.format(link, link), page) == text.format(expected, expected)


def test_names_become_links_to_what_they_stand_for() -> None:
    griffe = pytest.importorskip("griffe")
    names = importlib.import_module("site_names")
    code = '''
"""A `Shape` has an `area`."""
class Shape:
    """A thing with an `area`, see `Shape.area` and `_hidden`, not ``Shape`` or `os`."""
    def area(self):
        """What `scaled` scales.

        Example:
            >>> 1
        """
    def _hidden(self):
        """Hidden."""
    def bare(self): ...
def scaled():
    """An `area` is no name here, `bare` neither, a `Shape` is."""
'''
    found: Any
    with griffe.temporary_visited_package("made", {"__init__.py": code}) as found:
        names.NamesToLinks().on_package(pkg=found, loader=None)
    shape, area = "[`Shape`][made.Shape]", "[`area`][made.Shape.area]"
    assert found.docstring.value == f"A {shape} has an `area`."
    told = found["Shape"].docstring.value
    assert told == (
        f"A thing with an {area}, see [`Shape.area`][made.Shape.area] and `_hidden`, "
        "not ``Shape`` or `os`."
    )
    said = found["Shape"]["area"].docstring.value
    assert said.startswith("What [`scaled`][made.scaled] scales.") and "\nExamples:\n" in said
    assert found["scaled"].docstring.value.endswith(f"`bare` neither, a {shape} is.")


@pytest.mark.parametrize(
    ("tag", "refused"),
    [
        ('<script src="https://unpkg.com/a"></script>', True),
        ('<link rel="preconnect" href="https://fonts.gstatic.com" crossorigin>', True),
        ('<img alt="" src=//example.org/a.png>', True),
        ('<a href="https://example.org">a link is no request</a>', False),
        ('<script src="assets/javascripts/bundle.js"></script>', False),
        ('<link rel="canonical" href="https://example.org/">', False),
    ],
)
def test_a_page_loads_nothing_from_another_host(tmp_path: Path, tag: str, refused: bool) -> None:
    exceptions = pytest.importorskip("mkdocs.exceptions")
    hooks = importlib.import_module("site_hooks")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "page.html").write_text(f"<html>{tag}</html>")
    site = SimpleNamespace(site_dir=str(tmp_path))
    if refused:
        with pytest.raises(exceptions.PluginError, match="loads from another host"):
            hooks.on_post_build(site)
    else:
        hooks.on_post_build(site)
