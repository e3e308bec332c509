"""Recipes of the papers' rows: they hold together, take their paper's lists, and say so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import REPOSITORY

from lit_biqa.__main__ import main
from lit_biqa.cli.config_files import merge_files
from lit_biqa.data.protocols import PREFIX, expanded
from lit_biqa.runs import recipes

FOLDER = REPOSITORY / "configs" / "reproduce"
RECIPES = sorted(
    file.relative_to(FOLDER.parent).with_suffix("") for file in FOLDER.glob("*/*.yaml")
)
# Of this paper only the abstract is at hand; its lists are those of the same group's next paper.
LISTS = {"guiding_perception_reasoning": "pure_textual_reasoning"}


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_settings_are_those_of_the_classes_that_they_name(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config", str(recipe), "--print_config"])
    assert ended.value.code == 0
    assert "class_path: lit_biqa." in capsys.readouterr().out


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_row_is_tested_on_its_papers_lists(recipe: Path) -> None:
    file = FOLDER.parent / f"{recipe}.yaml"
    paper = LISTS.get(recipe.parent.name, recipe.parent.name)
    sets = [name for name in merge_files([file], [])["data"]["test"] if name != "conversations"]
    assert len(sets) == 1
    assert sets[0].removesuffix("_mixed") == f"{PREFIX}{paper}"


@pytest.mark.parametrize("name", recipes.names())
def test_headers_name_the_lists_that_are_tested(name: str) -> None:
    """Paper and lists, in a header of its own: that of the base is not read with it."""
    recipe = recipes.read(name)
    data = merge_files([recipe.path], []).get("data", {})
    lists = {spec for spec in data.get("test") or [] if spec.startswith(PREFIX)}
    assert lists or not name.startswith(("published/", "reproduce/"))
    told = [part for part in recipe.header.split("\n\n") if part.startswith("Lists: ")]
    assert len(told) == bool(lists)
    assert lists == set(re.findall(rf"{PREFIX}\w+", "".join(told)))
    if any("koniq" in each for each in expanded(sorted(lists), "test")):
        assert "KonIQ" in told[0]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_the_run_of_a_row_has_its_name(recipe: Path) -> None:
    header = recipes.read(str(recipe)).header
    (command, run) = re.findall(r"lit_biqa (?:fit|test) --config (\S+)[^`]*?--run (\S+)", header)[0]
    assert command == str(recipe)
    assert Path(run).name == recipe.name or recipe.name == "predictions"


def test_base_recipes_of_the_papers_take_their_lists_too() -> None:
    taken = {
        **dict.fromkeys(("grpo/score", "sft/qalign", "sft/deqa", "rali/clip_vit_l_14_336"), ""),
        "ract/cross_domain": "_mixed",
    }
    for name, kind in taken.items():
        data = merge_files([FOLDER.parent / f"{name}.yaml"], [])["data"]
        wanted = [f"{PREFIX}reasoning_as_representation{kind}"]
        assert (data["train"], data["test"]) == (wanted, wanted)
    for name in ("chain_of_thought", "self_consistency", "autoencoder"):
        data = merge_files([FOLDER.parent / f"grpo/{name}.yaml"], [])["data"]
        assert data["train"] == data["test"] == [f"{PREFIX}pure_textual_reasoning"]
