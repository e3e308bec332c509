"""Hooks of mkdocs: pages that are made of other files, and links from page to page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from site_links import in_site
from site_pages import copied_pages, notebook_pages, recipes_page, reference_pages

# What a browser loads by itself, unlike a link: scripts, styles, pictures, frames.
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\s>]*"
    r"|<link\b(?![^>]*rel=[\"']?canonical)[^>]*\bhref=[\"']?(?:https?:)?//[^\s>]*"
)


def on_config(config: MkDocsConfig) -> None:
    """Put the pages of the reference into the navigation."""
    pages = [page for page, _ in reference_pages()]
    config.nav = _with_reference(config.nav, pages)


def _with_reference(nav: Any, pages: list[str]) -> Any:
    """The navigation, with ``pages`` in the place of ``reference``."""
    if isinstance(nav, list):
        return [_with_reference(each, pages) for each in nav]
    if isinstance(nav, dict):
        return {name: _with_reference(each, pages) for name, each in nav.items()}
    return pages if nav == "reference" else nav


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that are no files of docs/."""
    made = [*copied_pages(), ("recipes.md", recipes_page()), *reference_pages(), *notebook_pages()]
    for page, content in made:
        files.append(File.generated(config, page, content=content))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to files into links to pages."""
    return in_site(markdown, page.file.src_uri)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a page that loads anything from another host."""
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        found = _LOADED.search(path.read_text(encoding="utf-8"))
        if found:
            raise PluginError(f"{path} loads from another host: {found[0]}")
