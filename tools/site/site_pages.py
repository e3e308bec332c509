"""Pages of the site that are made of other files: the reference, the recipes, the notebook."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from site_links import PAGES

from lit_biqa.runs import recipes

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "lit_biqa"


def rooms() -> list[str]:
    """Rooms of the package: its modules and packages, sorted."""
    return sorted(
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or path.is_dir()
        if not path.name.startswith("_")
    )


def reference_pages() -> Iterator[tuple[str, str]]:
    """A page for what `import lit_biqa` gives, then one for each room."""
    yield "reference/index.md", _directive("lit_biqa", "lit_biqa", "show_submodules: false")
    for room in rooms():
        yield f"reference/{room}.md", _directive(room, f"lit_biqa.{room}")


def _directive(title: str, name: str, option: str = "show_submodules: true") -> str:
    return f"# {title}\n\n::: {name}\n    options:\n      {option}\n"


def recipes_page() -> str:
    """Each recipe with its needs, costs and results, under the folder that it lies in."""
    parts = [
        "# Recipes\n\n`--config NAME` takes a recipe by its name, `lit_biqa list recipes NAME` "
        "prints its header, `--print_config` its settings. Overlays change a recipe before them.\n"
    ]
    names = sorted(recipes.names(), key=lambda name: (name.count("/") > 0, name))
    for folder, group in groupby(names, lambda name: name.partition("/")[0] if "/" in name else ""):
        if folder:
            parts.append(f"## {folder}\n")
        parts += [_recipe(recipes.read(name)) for name in group]
    return "\n".join(parts)


def _recipe(recipe: recipes.Recipe) -> str:
    facts = {
        "needs": recipe.needs,
        "takes": recipe.takes,
        "gives": recipe.gives,
        "licence": recipe.licence,
    }
    lines = [f"- **{name}**: {_with_links(fact)}" for name, fact in facts.items() if fact]
    level = "###" if "/" in recipe.name else "##"
    return "\n".join([f"{level} {recipe.name}\n", f"{recipe.summary}\n", *lines, ""])


def _with_links(fact: str) -> str:
    """A fact that names a page of docs/, with a link to it."""
    return re.sub(r"docs/([\w-]+\.md)", r"[docs/\1](\1)", fact)


def copied_pages() -> Iterator[tuple[str, str]]:
    """Pages that are files of the repository as they are."""
    for file, page in PAGES.items():
        if file.endswith(".md"):
            yield page, (ROOT / file).read_text(encoding="utf-8")


def notebook_pages() -> Iterator[tuple[str, str | bytes]]:
    """Each notebook as a page, and the figures of its outputs."""
    from nbconvert import MarkdownExporter

    exporter = MarkdownExporter()  # type: ignore[no-untyped-call]
    for file, page in PAGES.items():
        if file.endswith(".ipynb"):
            folder = page.removesuffix(".md")
            settings = {"output_files_dir": folder}
            text, resources = exporter.from_filename(str(ROOT / file), resources=settings)
            yield page, text
            yield from resources["outputs"].items()
