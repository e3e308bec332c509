"""docs/reproduce.md: no table or figure of the papers is missing, and its recipes exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import REPOSITORY

from lit_biqa.runs import recipes

PAGE = (REPOSITORY / "docs" / "reproduce.md").read_text()
RESULTS = (REPOSITORY / "docs" / "results.md").read_text()
SECTIONS = dict(part.split("\n", 1) for part in PAGE.split("\n## ")[1:])
PAPERS = {
    "pure_textual_reasoning": "Understanding Pure Textual Reasoning",
    "reasoning_as_representation_rali_ract": "Reasoning as Representation",
    "building_reasonable_inference": "Building Reasonable Inference",
    "guiding_perception_reasoning_abstract": "Guiding Perception-Reasoning Closer to Human",
}
CAPTION = re.compile(
    r"^(?:  • )?\**(table|fig(?:ure)?)\.? ([IVX]+|[A-Z]?\.?\d+)\b[.:* ]",
    re.IGNORECASE | re.MULTILINE,
)


def captions(text: str) -> set[tuple[str, str]]:
    """Kind and number of each table and figure that has a caption."""
    return {(kind[:3].lower(), number) for kind, number in CAPTION.findall(text)}


def listed(section: str) -> set[tuple[str, str]]:
    """Kind and number of each table and figure that has a line."""
    found = re.findall(r"^\| (Table|Figure) (\S+) \|", section, re.MULTILINE)
    return {(kind[:3].lower(), number) for kind, number in found}


def test_captions_are_found() -> None:
    text = "**Table 2. Quality**\nTABLE II **Abl\nFig. 4. From\nTable A.5: x\n  • Figure S1: y\n"
    found = {("tab", "2"), ("tab", "II"), ("fig", "4"), ("tab", "A.5"), ("fig", "S1")}
    assert captions(text) == found


@pytest.mark.parametrize(("paper", "title"), PAPERS.items())
def test_no_table_or_figure_is_missing(paper: str, title: str, shared: Path) -> None:
    text = (shared / "papers" / f"{paper}.txt").read_text()
    found = captions(text)
    assert len(found) >= 5
    assert listed(SECTIONS[title]) == found


def test_every_recipe_that_is_named_exists() -> None:
    names = recipes.names()
    named = re.findall(r"(?:--config|list recipes) ([\w/]+)", PAGE)
    assert len(named) > 20
    assert set(named) <= set(names)
    for paper, section in (
        ("pure_textual_reasoning", "Understanding Pure Textual Reasoning"),
        ("reasoning_as_representation", "Reasoning as Representation"),
        ("building_reasonable_inference", "Building Reasonable Inference"),
        ("guiding_perception_reasoning", "Guiding Perception-Reasoning Closer to Human"),
    ):
        made = {name.rpartition("/")[2] for name in names if f"reproduce/{paper}/" in name}
        lines = [line for line in SECTIONS[section].splitlines() if line.startswith("| ")]
        told = set(re.findall(r"[`/](\w+)[` ]", "\n".join(lines)))
        ranged = {f"rali_size_{i}" for i in range(1, 11)} | {f"rali_case_{i}" for i in range(1, 6)}
        steps = {"predictions", "q_insight_spaq", "q_insight_kadid", "q_insight_pipal"}
        assert made - told - ranged - steps == set()


def test_places_in_the_results_are_its_headings() -> None:
    headings = re.findall(r"^#+ (.*)$", RESULTS, re.MULTILINE)
    cells = [line.strip("| ").split(" | ")[-1] for line in PAGE.splitlines() if " | " in line]
    places = [place for cell in cells for place in cell.split("; ") if place[:1].isupper()]
    named = [place for place in places if not place.startswith(("Figure", "Table", "Two more"))]
    assert len(named) > 5
    for place in named:
        assert any(place.startswith(heading) for heading in headings), place
