"""List what can be named in a configuration: recipes, data sets and classes, each with a line.

lit_biqa list recipes
lit_biqa list recipes rali/tiny_agiqa3k
lit_biqa list splits agiqa3k --root data
lit_biqa list readouts
lit_biqa list models
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import TextWrapper
from typing import TYPE_CHECKING

from lit_biqa.cli.class_index import classes_of
from lit_biqa.runs import recipes
from lit_biqa.types import InputError, nearest

if TYPE_CHECKING:  # Recipes are listed without the readers of data sets.
    from lit_biqa.data.readers.entry import Entry, Label

Rows = list[tuple[str, ...]]
WIDTH = 150  # of a table where the output is no terminal


def recipe_lines() -> str:
    """Each recipe: what it is, needs, takes and gives; overlays without the last three."""
    blocks = []
    for recipe in map(recipes.read, recipes.names()):
        facts = {"needs": recipe.needs, "takes": recipe.takes, "gives": recipe.gives}
        blocks.append(_block(recipe.name, recipe.summary, facts))
    return "\n\n".join(blocks)


def model_lines() -> str:
    """Each published model: its recipe, weights, licence, and what is printed for it."""
    blocks = []
    for recipe in map(recipes.read, recipes.names()):
        if recipe.name.startswith("published/"):
            facts = {
                "weights": weights_of(recipe),
                "licence": recipe.licence,
                "printed": recipe.gives.partition("; ")[2],
            }
            blocks.append(_block(recipe.name, recipe.summary, facts))
    return "\n\n".join(blocks)


def _block(name: str, summary: str, facts: dict[str, str]) -> str:
    wrapped = TextWrapper(
        99, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False
    )
    lines = [name, *wrapped.wrap(summary)]
    for label, fact in facts.items():
        lines += wrapped.wrap(f"{label}: {fact}") if fact else ()
    return "\n".join(lines)


def weights_of(recipe: recipes.Recipe) -> str:
    """Hub name and subfolder of a recipe's weights, or the file that they are made into.

    Example:
        >>> weights_of(recipes.read("published/q_insight"))
        'ByteDance/Q-Insight/score_degradation'
    """
    from lit_biqa.cli.config_files import read

    model = read(recipe.path)["model"]["init_args"]
    if "path" in model:
        return str(model["path"])
    if "encoder" in model:
        return str(model["encoder"]["init_args"]["model"]).removeprefix("transformers:")
    backbone = model["backbone"]["init_args"]
    layout = backbone.get("layout", {})
    name = "/".join(filter(None, [backbone["pretrained"], layout.get("subfolder")]))
    return f"{name} on {layout['base']}" if layout.get("base") else name


def dataset_rows() -> Rows:
    """Each data set of the catalogue: its images, the scale of its scores, its source."""
    from lit_biqa.data.catalog import ENTRIES

    head: Rows = [("data set", "title", "images", "scores, worst to best", "from")]
    return head + [
        (
            entry.name,
            entry.title,
            str(entry.count or "any"),
            " to ".join(f"{end:g}" for end in _ends(entry.low, entry.high, entry.lower_is_better)),
            entry.source,
        )
        for entry in ENTRIES
    ]


def _ends(low: float, high: float, lower_is_better: bool) -> tuple[float, float]:
    return (high, low) if lower_is_better else (low, high)


def split_rows() -> Rows:
    """Each data set's own splits, the protocols, and the splits that every data set has."""
    from lit_biqa.data.catalog import ENTRIES
    from lit_biqa.data.protocols import PROTOCOLS

    rows: Rows = [("data set", "split", "parts")]
    for entry in ENTRIES:
        default = {entry.split: " (where none is named)"}
        for split, parts in entry.parts.items():
            rows.append((entry.name, split + default.get(split, ""), ", ".join(parts)))
        for split, files in entry.lists.items():
            rows.append((entry.name, split, ", ".join(files)))
        for size in entry.versions:
            rows.append((entry.name, f"<split>-{size}", f"any split, in images of {size}"))
        for kind in entry.groups:
            split = f"{kind}-<seed>" + default.get(f"{kind}-0", "")
            rows.append((entry.name, split, f"train, test: a fifth of the {kind}s, whole"))
    return [
        *rows,
        *(("protocol", name, protocol.source) for name, protocol in PROTOCOLS.items()),
        ("any", "all", "train, val, test: every image"),
        ("any", "random-<seed>", "train, test: a fifth of the images by a hash of their names"),
        (
            "with groups",
            "group-<seed>",
            "train, test: by the first kind of groups that the data set has",
        ),
    ]


def split_counts(name: str, root: Path) -> Rows:
    """Images in each part of each split of one data set; seeded splits by the seed 0.

    Args:
        name: catalogue name, or the path of a CSV.
        root: folder under which data sets lie.

    Raises:
        InputError: if there is no such data set, or its label file is absent or wrong.
    """
    from lit_biqa.data.catalog import entry_of
    from lit_biqa.data.splits import PARTS, held_out, offered

    entry, root = entry_of(name, root)
    labels = entry.labels(entry.folder(root), partial=True)
    rows: Rows = [("split", *PARTS, "groups held out")]
    for split in offered(entry):
        split = split.replace("<seed>", "0")
        chosen = [_rows(entry, labels, split, part, root) for part in PARTS]
        kind = held_out(entry, split)
        sides = [{labels[row].groups.get(kind, "").lower() for row in rows} for rows in chosen]
        groups = f"{len(sides[2])} of {len(sides[0] | sides[2])} {kind}s" if kind else "-"
        rows.append((split, *(str(len(rows) or "-") for rows in chosen), groups))
    return rows


def _rows(entry: Entry, labels: list[Label], split: str, part: str, root: Path) -> list[int]:
    """Rows of a part; none where the split has no such part, or its list is not on disk."""
    from lit_biqa.data.splits import choose

    try:
        return choose(entry, labels, split, part, root)
    except InputError:
        return []


def class_rows(room: str, root: str) -> Rows:
    """Each class of a room that a configuration can name, with its first line of help."""
    head: Rows = [("class_path", "what")]
    return head + [(f"{line.module}.{line.name}", line.summary) for line in classes_of(room, root)]


TABLES: dict[str, Callable[[], Rows]] = {
    "datasets": dataset_rows,
    "splits": split_rows,
    "backbones": lambda: (
        class_rows("backbones", "ImageTextEncoder")
        + class_rows("backbones", "VisionLanguageModel")[1:]
    ),
    "methods": lambda: class_rows("methods", "Evaluator"),
    "paradigms": lambda: class_rows("paradigms", "Paradigm"),
    "readouts": lambda: class_rows("readouts", "Readout"),
    "rewards": lambda: class_rows("rewards", "Reward"),
}


def header_of(name: str) -> str:
    """The header of a recipe, and the files that it takes settings from.

    Raises:
        InputError: if there is no such recipe.
    """
    name = name.removeprefix("configs/").removesuffix(".yaml")
    if name not in recipes.names():
        raise InputError(f"there is no recipe {name!r}{nearest(name, recipes.names())}")
    recipe = recipes.read(name)
    return f"{recipe.header}\n\n{recipe.path}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, or the header of one recipe; the exit status is 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="lit_biqa list",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=["recipes", "models", *TABLES])
    parser.add_argument(
        "name",
        nargs="?",
        help="one recipe, to show its whole header, or one data set, to count its splits",
    )
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder of the data sets")
    options = parser.parse_args(arguments)
    try:
        if options.kind == "recipes":
            print(recipe_lines() if options.name is None else header_of(options.name))
        elif options.kind == "models" and options.name is None:
            print(model_lines())
        elif options.name is None:
            _print(TABLES[options.kind]())
        elif options.kind == "splits":
            _print(split_counts(options.name, options.root))
        else:
            raise InputError(
                f"a name is for recipes and splits; `lit_biqa list {options.kind}` lists them all"
            )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _print(rows: Rows) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    head, *lines = rows
    grid = Table(*head, box=box.SIMPLE)
    # Names are what is typed: the other columns share what they leave.
    grid.columns[0].no_wrap = True
    for line in lines:
        grid.add_row(*line)
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(grid)
