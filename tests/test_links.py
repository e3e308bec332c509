"""Links among the repository's pages lead to files and headings, as code hosts show them.

`mkdocs build --strict` checks the same pages as a site.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *DOCS, *sorted(ROOT.glob("*/README.md"))]
TOUR = ROOT / "docs" / "tour.ipynb"
FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def text_of(page: Path) -> str:
    """A page without its code; of a notebook the cells of text."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells)
    return FENCE.sub("", text)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings: lower case, words joined by hyphens, repeats numbered."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.*?) *$", text_of(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def test_anchors_are_those_of_code_hosts(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# `fit`, and *test*\n## Two words\n```\n# no heading\n```\n## Two words\n")
    assert anchors(page) == {"fit-and-test", "two-words", "two-words-1"}


@pytest.mark.parametrize("page", [*PAGES, TOUR], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in LINK.findall(text_of(page)):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


def test_links_are_found() -> None:
    assert sum(len(LINK.findall(text_of(page))) for page in PAGES) > 80


def test_pages_that_code_and_recipes_name_exist() -> None:
    files = [*(ROOT / "lit_biqa").rglob("*.py"), *(ROOT / "configs").rglob("*.yaml")]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    named = set(re.findall(r"docs/[\w-]+\.md", text))
    assert {"docs/results.md", "docs/weights.md"} <= named
    assert all((ROOT / page).is_file() for page in named)


def test_every_page_is_in_the_navigation() -> None:
    class Loader(yaml.SafeLoader):
        """Reads mkdocs.yml, of which one value is a function."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    site = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)
    listed = [page for page in leaves(site["nav"]) if page.endswith(".md")]
    assert len(listed) == len(set(listed))
    made = {"index.md", "tour.md", "data.md", "recipes.md", "contributing.md", "changelog.md"}
    assert set(listed) == {page.name for page in DOCS} | made


def leaves(nav: object) -> list[str]:
    """All pages of a navigation, at any depth."""
    if isinstance(nav, dict):
        nav = list(nav.values())
    return [page for each in nav for page in leaves(each)] if isinstance(nav, list) else [str(nav)]
