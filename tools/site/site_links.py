"""Links of the repository's pages, as the site has them.

A page of docs/ links to files as a code host shows them: ``../data/README.md#splits``. In the site
each of these files is a page, or stands on one.
"""

from __future__ import annotations

import posixpath
import re

#: Files outside of docs/ that are pages, and notebooks, each with its page.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "data/README.md": "data.md",
    "docs/tour.ipynb": "tour.md",
}
_FILES = {page: file for file, page in PAGES.items()}
_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[#)])")
_FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def page_of(file: str) -> str | None:
    """Page of a file of the repository; ``None`` if the site has none.

    Example:
        >>> page_of("configs/rali")
        'recipes.md#rali'
        >>> page_of("lit_biqa/limits.py")
        'reference/limits.md'
    """
    if file in PAGES:
        return PAGES[file]
    top, _, rest = file.partition("/")
    if top == "docs":
        return rest
    if top == "configs":
        return f"recipes.md#{rest.partition('/')[0]}"
    if top == "lit_biqa":
        return f"reference/{rest.partition('/')[0].removesuffix('.py')}.md"
    return None


def in_site(markdown: str, page: str) -> str:
    """Text of a page with its links to files turned into links to pages.

    Args:
        markdown: the text. Code in fences stays as it is.
        page: of the site, such as ``data.md``.
    """
    folder = posixpath.dirname(_FILES.get(page, f"docs/{page}"))

    def replaced(match: re.Match[str]) -> str:
        target = page_of(posixpath.normpath(posixpath.join(folder, match[1])))
        return match[1] if target is None else posixpath.relpath(target, posixpath.dirname(page))

    kept = _FENCE.findall(markdown)
    parts = [_LINK.sub(replaced, part) for part in _FENCE.split(markdown)]
    return "".join(text for pair in zip(parts, [*kept, ""], strict=True) for text in pair)
