"""docs/reproduce.md: no table or figure of the papers is missing, and its recipes exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from conftest import REPOSITORY

from lit_biqa.__main__ import main
from lit_biqa.data.catalog import find
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


# Sections of the results that belong to no table or figure of a paper, or have such sections below.
OTHERS = {
    *("Results", "Quickstart", "RALI's head alone, on ratings of one's own", "Start-up"),
    *("Language models whose tower read no image", "Speed of supervised fine-tuning"),
    *("Speed of GRPO", "Speed on a GPU", "Speed with pretrained weights", "Several processes"),
    *("mPLUG-Owl2", "The command of each row, at a small size"),
}


def places(cell: str) -> set[str]:
    """Sections of the results that a cell names, without its remarks."""
    parts = {part.partition(" (")[0] for part in cell.split("; ") if part}
    return {part for part in parts if part not in ("not measured", "published predictions: below")}


def test_places_in_the_results_are_its_headings_and_no_section_is_forgotten() -> None:
    headings = set(re.findall(r"^#+ (.*)$", RESULTS, re.MULTILINE))
    rows = re.findall(r"^\| (?:Table|Figure|Section|Abstract).*$", PAGE, re.MULTILINE)
    cells = [row.removesuffix("|").split(" |")[-1].strip() for row in rows]
    named = set[str]().union(*map(places, cells))
    assert named == headings - OTHERS


def commands() -> list[list[str]]:
    """Words of the page's commands that study or compare runs; fits and tests are of recipes."""
    text = PAGE.replace("\\\n", " ")
    found = re.findall(r"`(lit_biqa [^`\n]+)`|^ +(lit_biqa .+)$", text, re.MULTILINE)
    lines = [shlex.split(inline or block)[1:] for inline, block in found]
    return [words for words in lines if words[0] in ("analyse", "case", "compare") and words[1:]]


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1] if name in words else ""


def test_commands_lack_no_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They end as there is no such run or image yet; argparse would end what lacks an argument."""
    monkeypatch.chdir(tmp_path)
    assert len(commands()) > 20
    for words in commands():
        assert main(words) == 2, words
        assert "usage:" not in capsys.readouterr().err


def test_studies_of_a_run_have_folders_of_their_own() -> None:
    """A second study in a folder replaces the first."""
    written = [
        (words[1], option(words, "--run"), option(words, "--out"))
        for words in commands()
        if words[0] == "analyse"
    ]
    assert len(set(written)) == len(written) > 10


def test_studies_draw_the_papers_shares_of_the_data_sets(shared: Path) -> None:
    """Section 4.2: 3,000 images of SPAQ and KonIQ, and 20% of each of LIVE and CSIQ."""
    text = (shared / "papers" / "building_reasonable_inference.txt").read_text()
    assert "forming a mixed set of 3,000 samples" in text and "comprising 20% of each" in text
    drawn = {
        option(words, "--data.test"): int(option(words, "--samples"))
        for words in commands()
        if words[1] == "instability"
    }
    fifths = {f"[{name}/all]": round((find(name).count or 0) / 5) for name in ("liver2", "csiq")}
    assert drawn == {"[spaq/all, koniq10k/all]": 3000} | fifths
