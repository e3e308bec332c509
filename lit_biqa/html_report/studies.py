"""Sections on what a run holds beside its scores: RALI's prototypes, attention to words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lit_biqa.evaluation.store import PROTOTYPES, read_table
from lit_biqa.html_report import charts
from lit_biqa.html_report.page import Example, Section, Table
from lit_biqa.html_report.ratings import said
from lit_biqa.html_report.thumbnails import SIDES, thumbnails

_PROTOTYPE_COLUMNS = ("prototype", "score", "dataset", "name", "mos", "cosine", "path", "text")
_WORD_COLUMNS = ("word", "count", "times_uniform")
_SHOWN = 8  # prototypes
_WORDS = 25
_PICTURES = 500_000  # characters of their pictures


def prototype_section(run: Path) -> Section:
    """Section on prototypes from the lowest to the highest score, with their nearest images."""
    file = run / PROTOTYPES
    numbers = ("score", "mos", "cosine")
    lines = read_table(file, _PROTOTYPE_COLUMNS, numbers) if file.is_file() else []
    by_prototype: dict[str, list[Mapping[str, str]]] = {}
    for line in lines:
        by_prototype.setdefault(line["prototype"], []).append(line)
    ordered = sorted(by_prototype.values(), key=lambda near: float(near[0]["score"]))
    last = max(1, _SHOWN - 1)
    places = sorted({i * (len(ordered) - 1) // last for i in range(_SHOWN)}) if ordered else []
    chosen = [ordered[place] for place in places]
    paths = {line["path"]: Path(line["path"]) for near in chosen for line in near if line["path"]}
    pictures = thumbnails(paths, _PICTURES, SIDES[1])
    examples = [
        (
            f"Prototype {near[0]['prototype']}, score {float(near[0]['score']):.2f}",
            [_near(line, pictures[line["path"]].uri if line["path"] else "") for line in near],
        )
        for near in chosen
    ]
    note = (
        f"{len(chosen)} of {len(ordered)} prototypes, evenly spread from the lowest to the highest "
        "score, each with its nearest training images. The fit of the head may move scores of "
        "prototypes beyond 1 to 5; an image gets a mean of many."
    )
    return Section("Prototypes", [note] if chosen else [], examples=examples)


def _near(line: Mapping[str, str], uri: str) -> Example:
    told = f"{line['dataset']}, MOS {float(line['mos']):.2f}, cosine {float(line['cosine']):.2f}"
    return Example(uri, line["name"], {}, [("name", told)], said(line["text"]))


def attention_section(run: Path) -> tuple[list[Section], dict[str, Table]]:
    """Attention to words of the texts, where `lit_biqa analyse score-attention` was run.

    Raises:
        InputError: if the file is damaged.
    """
    files = sorted(run.glob("analysis/*/score_attention_words.csv"))
    numbers = ("count", "times_uniform")
    lines = read_table(files[0], _WORD_COLUMNS, numbers)[:_WORDS] if files else []
    words: Table = [
        {"word": line["word"], **{name: float(line[name]) for name in numbers}} for line in lines
    ]
    if not words:
        return [], {}
    note = f"The {len(words)} words with the largest share, from {files[0].relative_to(run)}."
    drawn = [charts.word_attention(len(words))]
    return [Section("Attention to words", [note], charts=drawn)], {"words": words}
