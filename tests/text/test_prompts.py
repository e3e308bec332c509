"""Prompts hold what is put into them, and those that are verbatim are so."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_biqa.cli.config_files import merge_files
from lit_biqa.paradigms import SelfConsistency
from lit_biqa.runs import recipes
from lit_biqa.text import prompts
from lit_biqa.types import IMAGE, ask

AWKWARD = 'sharp {R}, "{MOS}"\n\\1 %s'


@pytest.mark.parametrize("prompt", [prompts.second_pass, prompts.conclude])
def test_the_second_pass_holds_the_description_word_for_word(
    prompt: Callable[[str], str],
) -> None:
    assert AWKWARD in prompt(AWKWARD)
    # A model may write the placeholder; the text-only question must stay without image.
    assert ask(prompt(f"a {IMAGE}cat")).messages[-1].text.count("a cat") == 1


def test_the_score_stands_in_the_explanation_unless_masked() -> None:
    assert "rated as 4.069082066870276. " in prompts.explain(4.069082066870276)
    assert "rated as 3.0. " in prompts.explain(3)
    masked = prompts.explain(None)
    assert "rated as some score. " in masked
    assert re.findall(r"\d", masked) == ["1", "5"]


def test_paper_prompts_are_those_of_the_released_conversations(shared: Path) -> None:
    for model in ("v11", "v13", "v14"):
        first, second = json.loads((shared / f"data/texts/case_study_{model}.json").read_text())
        _, system, user, _ = re.split(r"(?:^|\n)(?:system|user|assistant)\n", first[0], maxsplit=3)
        assert (system, user) == (prompts.TEST_SYSTEM, prompts.TEST_SCORE)
        _, system, user, _ = re.split(r"(?:^|\n)(?:system|user|assistant)\n", second[0], maxsplit=3)
        assert system == prompts.R1_SYSTEM
        description = user.removeprefix("If there is an image described as ").split(", what is")[0]
        assert user == prompts.second_pass(description)


def test_prompts_of_table_a4_are_as_printed(shared: Path) -> None:
    paper = (shared / "papers/reasoning_as_representation_rali_ract.txt").read_text()
    for prompt in (prompts.SCORE, prompts.RACT):
        assert prompt in paper
    printed = re.sub(r"<\s*(/?)\s*(\w+)\s*>", r"<\1\2>", paper.replace("`", ""))
    assert "".join(prompts.R1_SYSTEM.split()) in "".join(printed.split())


@pytest.mark.parametrize(
    ("prompt", "digest"),
    [
        (
            prompts.SELF_CONSISTENCY_SYSTEM.replace("caption", "catption"),
            "f4d9eca72af9f72420d914098b5e2f5c3a33fc82d7e7b88dff13001189c0e83c",
        ),
        (
            prompts.AUTOENCODER_SYSTEM,
            "3ec052ddd1ecd3aef47ff71905a14f5108c82148a9878c212f0dffb5f842fb13",
        ),
        (
            prompts.explain(3).replace("3.0", "score_holder"),
            "6d6755e0cc49e5b449ddb49248d0efa91fe000e3a9ff21b180c1e8c5968d7d59",
        ),
        (
            prompts.CHAIN_OF_THOUGHT_SYSTEM,
            "15919c84ff64e949775ba0b1f8e7cf297605f43a6ac9c9242b461866a945b713",
        ),
        (
            prompts.CHAIN_OF_THOUGHT,
            "861fdbb296a958214edc2e1443bd089b351197b174f5822cfa3dad5731230ebe",
        ),
        (
            prompts.TEST_SCORE,
            "ed3814d6f867d64e8abc2a5536d5fdb182b73bef019981e37b40276e5e579066",
        ),
    ],
)
def test_prompts_of_training_are_those_of_the_released_code(prompt: str, digest: str) -> None:
    """Digests of the constants in its scripts 2_self_consistency_v13_1.py and so on."""
    assert hashlib.sha256(prompt.encode()).hexdigest() == digest


@pytest.mark.parametrize("paper", ["pure_textual_reasoning", "guiding_perception_reasoning"])
def test_the_baseline_of_the_paradigms_is_asked_as_in_its_released_code(paper: str) -> None:
    """Its question has no "Return", which Q-Insight's own has."""
    recipe = recipes.find(f"reproduce/{paper}/q_insight_score")
    paradigm = merge_files([recipe], [])["model"]["init_args"]["paradigm"]["init_args"]
    assert paradigm["question"] == prompts.TEST_SCORE


def test_questions_of_qalign_are_those_of_its_records(shared: Path) -> None:
    records = json.loads((shared / "data/texts/train_koniq_sample.json").read_text())
    released = {record["conversations"][0]["value"] for record in records}
    assert {f"{question}\n{IMAGE}" for question in prompts._QALIGN} == released
    assert prompts.QALIGN_TEST_QUESTION in released


def test_the_second_row_of_self_consistency_alone_forbids_numbers() -> None:
    sentence = "The description mentions no numerical score."
    systems = {
        name: merge_files([recipes.folder() / f"grpo/{name}.yaml"], [])["model"]["init_args"][
            "paradigm"
        ]["init_args"].get("system", SelfConsistency().system)
        for name in ("self_consistency", "self_consistency_no_numbers", "small_self_consistency")
    }
    assert systems.pop("self_consistency") == prompts.SELF_CONSISTENCY_SYSTEM
    assert set(systems.values()) == {prompts.SELF_CONSISTENCY_NO_NUMBERS_SYSTEM}
    assert prompts.SELF_CONSISTENCY_NO_NUMBERS_SYSTEM.endswith(sentence)
    assert "score" not in prompts.SELF_CONSISTENCY_SYSTEM


def test_every_system_that_names_a_tag_opens_and_closes_it() -> None:
    systems = [value for name, value in vars(prompts).items() if name.endswith("_SYSTEM")]
    assert len(systems) == 8
    for system in set(systems) - {prompts.AUTOENCODER_SYSTEM}:  # it names none
        tags = re.findall(r"<(/?)(\w+)>", system)
        assert tags
        for tag in {name for _, name in tags}:
            assert tags.count(("", tag)) == tags.count(("/", tag)) == 2
