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
    """Some prototypes from the lowest to the highest score, with their nearest training images."""
    file = run / PROTOTYPES
    lines = read_table(file, _PROTOTYPE_COLUMNS) if file.is_file() else []
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
    note = f"{len(chosen)} of {len(ordered)} prototypes, each with its nearest training images."
    return Section("Prototypes", [note] if chosen else [], examples=examples)


def _near(line: Mapping[str, str], uri: str) -> Example:
    told = f"{line['dataset']}, MOS {float(line['mos']):.2f}, cosine {float(line['cosine']):.2f}"
    return Example(uri, line["name"], {}, [("name", told)], said(line["text"]))


def attention_section(run: Path) -> tuple[Section, Table]:
    """Attention to words of the texts, where `lit_biqa analyse score-attention` was run."""
    files = sorted(run.glob("analysis/*/score_attention_words.csv"))
    lines = read_table(files[0], _WORD_COLUMNS)[:_WORDS] if files else []
    words = [
        {
            "word": line["word"],
            "count": int(line["count"]),
            "times_uniform": float(line["times_uniform"]),
        }
        for line in lines
    ]
    title = "Attention to words"
    if not words:
        return Section(title), words
    note = f"The {len(words)} words with the largest share, from {files[0].relative_to(run)}."
    return Section(title, [note], charts=[charts.word_attention(len(words))]), words
