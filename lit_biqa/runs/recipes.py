"""Recipes: the configuration files that come with the package, by name.

``rali/tiny_agiqa3k`` is ``configs/rali/tiny_agiqa3k.yaml`` of a checkout, which an installed
package holds as ``lit_biqa/recipes/rali/tiny_agiqa3k.yaml``.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from lit_biqa.types import InputError

PACKAGE = Path(__file__).resolve().parent.parent
#: Folders of overlays, which change a recipe and are none by themselves.
OVERLAYS = ("backbone", "trainer")
_FIELD = re.compile(r"^(needs|takes|gives|licence): ")


@dataclass(frozen=True)
class Recipe:
    """A configuration file and its header, the comment at its top.

    Example: a file that begins with ``# RALI on a CPU. More words.`` and a line
    ``# Takes: 20 minutes on two cores`` has the summary ``RALI on a CPU.`` and takes
    ``20 minutes on two cores``.

    Attributes:
        name: as ``--config`` takes it.
        path: of the file.
        header: the whole comment, without its ``#``.
        summary: its first sentence.
        needs: data, texts, weights and memory.
        takes: time and the machine it was measured on, or that it was not measured.
        gives: the result to expect, with its source.
        licence: of published weights, as their authors name it.
    """

    name: str
    path: Path
    header: str
    summary: str
    needs: str = ""
    takes: str = ""
    gives: str = ""
    licence: str = ""


def folder() -> Path:
    """The folder of the recipes, of an installed package or of a checkout."""
    installed = PACKAGE / "recipes"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"


def names() -> list[str]:
    """Names of all recipes and overlays, sorted."""
    top = folder()
    paths = (path.relative_to(top) for path in top.glob("**/*.yaml"))
    return sorted(path.with_suffix("").as_posix() for path in paths)


def find(name: str) -> Path:
    """The file of a path or of a recipe's name.

    Args:
        name: a path, which wins where there is a file; or a recipe's name, with or without
            ``.yaml`` and with or without ``configs/`` before it.

    Returns:
        The file; the path as it was given where there is neither.

    Raises:
        InputError: if the name is empty.
    """
    if not name.strip():
        raise InputError("a configuration's name is empty: name a recipe or a file.")
    try:
        given = Path(name).expanduser()
    except RuntimeError:  # no such user
        given = Path(name)
    recipe = name.removeprefix("configs/").removesuffix(".yaml")
    if given.is_file() or recipe not in names():
        return given
    return folder() / f"{recipe}.yaml"


def read(name: str) -> Recipe:
    """The header of a recipe.

    Args:
        name: one of `names`.
    """
    path = folder() / f"{name}.yaml"
    lines = path.read_text(encoding="utf-8").splitlines()
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    header = "\n".join(line[1:].removeprefix(" ") for line in lines[:count])
    fields = {field.lower(): text for field, text in _fields(header)}
    summary = re.split(r"(?<=\.)\s", " ".join(_paragraph(header)))[0]
    return Recipe(name, path, header, summary, **fields)


def _paragraph(text: str) -> list[str]:
    """Lines up to the first empty one."""
    return text.split("\n\n")[0].splitlines()


def _fields(header: str) -> list[tuple[str, str]]:
    """``Needs``, ``Takes``, ``Gives`` and ``Licence``, each up to the next or to an empty line."""
    found: list[tuple[str, str]] = []
    inside = False
    for line in header.splitlines():
        if match := _FIELD.match(line[:1].lower() + line[1:]):
            found.append((match[1], line[match.end() :]))
            inside = True
        elif inside and line.strip():
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
        else:
            inside = False
    return found


def how_made(path: Path) -> str:
    """The command that makes a file of a run folder: ``runs/NAME/...`` is of the recipe NAME.

    Args:
        path: of a file or folder right in the folder of a run.
    """
    run = path.parent
    for name in names():
        # Overlays and scorers train nothing.
        trains = name.split("/")[0] not in OVERLAYS and "optimizer:" in _text_with_bases(name)
        if name.rpartition("/")[2] == run.name and trains:
            command = ["lit_biqa", "fit", "--config", name, "--run", str(run)]
            return f"a fit writes it; run {shlex.join(command)} first"
    return "a fit writes it; run the recipe that makes it first, or name another path"


def _text_with_bases(name: str) -> str:
    """The text of a recipe and of the recipes that it is based on."""
    text = (folder() / f"{name}.yaml").read_text(encoding="utf-8")
    base = re.search(r"^base: (\S+)$", text, re.MULTILINE)
    return text + (_text_with_bases(base[1]) if base else "")
