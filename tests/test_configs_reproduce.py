"""Recipes of the papers' rows: they hold together, take their paper's lists, and say so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY

from lit_biqa.__main__ import main
from lit_biqa.cli.config_files import merge_files
from lit_biqa.data.protocols import PREFIX, expanded
from lit_biqa.runs import recipes

pytestmark = pytest.mark.newest

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


def row(paper: str, name: str) -> dict[str, Any]:
    settings: dict[str, Any] = merge_files([FOLDER / paper / f"{name}.yaml"], [])
    return settings


Q_INSIGHT = ["q_insight", "q_insight_3b", "q_insight_spaq", "q_insight_kadid", "q_insight_pipal"]
Q_INSIGHT += ["two_sets_q_insight", "mixed_q_insight"]


@pytest.mark.parametrize("name", Q_INSIGHT)
def test_rows_of_q_insight_learn_its_two_tasks(name: str) -> None:
    """Reasoning as Representation, section 5.1: weights 0.25 and 0.75 of class and severity."""
    settings = row("reasoning_as_representation", name)
    paradigm = settings["model"]["init_args"]["paradigm"]
    assert paradigm["class_path"] == "lit_biqa.paradigms.MultiTask"
    reward = paradigm["init_args"]["degradation"]["reward"]["init_args"]
    assert reward == {"kind": 0.25, "severity": 0.75}
    *scores, distortions = settings["data"]["train"]
    assert distortions == "data/degradations.csv"
    header = recipes.read(f"reproduce/reasoning_as_representation/{name}").header
    assert f"--data.train '[{', '.join(scores)}]' trains that alone" in header.replace("\n", " ")


def test_the_score_task_alone_is_the_baseline_of_pure_textual_reasoning() -> None:
    """Its released scripts: 16 completions on each of 8 GPUs, in 2 parts, of 8 an image."""
    settings = row("pure_textual_reasoning", "q_insight_score")
    paradigm = settings["model"]["init_args"]["paradigm"]
    assert paradigm["class_path"] == "lit_biqa.paradigms.Score"
    completions = settings["data"]["loader"]["batch_size"] * paradigm["init_args"]["group"]
    assert completions == 16 * 8 * 2


def test_q_align_of_building_reasonable_inference_is_one_align() -> None:
    backbone = row("building_reasonable_inference", "qalign")["model"]["init_args"]["backbone"]
    pretrained = backbone["init_args"]["pretrained"]
    assert pretrained == "q-future/one-align"
    assert pretrained in recipes.read("reproduce/building_reasonable_inference/qalign").needs


def test_images_of_several_sets_are_ranked_within_the_step() -> None:
    """Ranking spans the step, because a process has too few images of one set."""
    ranked = {
        name: row("reasoning_as_representation", name)["model"]["init_args"]["paradigm"][
            "init_args"
        ]["score"]["reward"]["init_args"]["ranked_within"]
        for name in ("visual_quality_r1", "mixed_visual_quality_r1")
    }
    assert ranked == {"visual_quality_r1": "process", "mixed_visual_quality_r1": "step"}
