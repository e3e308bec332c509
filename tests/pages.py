"""Pages of docs/ as tests run them: their blocks of code, and the data that they need."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
from pathlib import Path

from conftest import REPOSITORY

from lit_biqa.__main__ import main
from lit_biqa.data.synthetic import SyntheticSettings, generate, samples

SMALL = SyntheticSettings(sources=6, images_per_source=8, size=48, texts=1)


def blocks(page: str, language: str) -> list[str]:
    """Fenced blocks of a language in a page of docs/, in their order."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[list[str]]:
    """Commands of a page's blocks of shell, each as its arguments after ``lit_biqa``.

    Raises:
        ValueError: for a line that is another program's.
    """
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        words = words[2:] if words[:2] == ["python", "-m"] else words
        if words and words[0] != "lit_biqa":
            raise ValueError(f"{page}: {words[0]} is no command of this package")
        found += [words[1:]] if words else []
    return found


def run(arguments: list[str]) -> None:
    """Run one command in this process, and fail unless it ends well."""
    assert main(arguments) == 0, shlex.join(arguments)


def furnish(folder: Path) -> None:
    """What pages take for granted: ``photos/``, ratings from 0 to 100, and another's predictions.

    The images are those of a little synthetic set, and the predictions are its MOS turned round.
    """
    (folder / "photos").mkdir()
    ratings, theirs = [("image", "mos", "text")], [("image", "score")]
    for sample in samples(generate(folder / "made", SMALL)):
        assert sample.path is not None
        shutil.copy(sample.path, folder / "photos" / sample.name)
        mos = f"{25 * (sample.mos - 1):.2f}"
        ratings.append((f"photos/{sample.name}", mos, sample.texts[0]))
        theirs.append((sample.name, f"{6 - sample.mos:.4f}"))
    for name, rows in (("ratings.csv", ratings), ("theirs.csv", theirs)):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
