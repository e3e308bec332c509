"""Feedbacks taken apart: sentences made up for these tests, and real texts for robustness."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lit_biqa.data.synthetic_texts import VERDICTS
from lit_biqa.text.conclusions import Feedback, coverage, decompose, named_levels
from lit_biqa.text.levels import LEVELS
from lit_biqa.text.parsing import tagged


@pytest.mark.parametrize(
    ("text", "description", "conclusion", "level"),
    [
        (
            "The sky is grainy. Leaves lose their texture. Therefore, the quality of this image "
            "is very poor.",
            "The sky is grainy. Leaves lose their texture.",
            "Therefore, the quality of this image is very poor.",
            "bad",
        ),
        (
            "The harbour is in focus. As a result, the quality of this picture is very good.",
            "The harbour is in focus.",
            "As a result, the quality of this picture is very good.",
            "excellent",
        ),
        (
            "The lamp is out of focus, and its glow is burnt out, resulting in poor image quality.",
            "The lamp is out of focus, and its glow is burnt out.",
            "resulting in poor image quality.",
            "poor",
        ),
        (
            "Feathers show plenty of detail, resulting in a very high quality picture.",
            "Feathers show plenty of detail.",
            "resulting in a very high quality picture.",
            "excellent",
        ),
        (
            "Edges are crisp, but corners are dim. Thus, the quality of the image is acceptable.",
            "Edges are crisp, but corners are dim.",
            "Thus, the quality of the image is acceptable.",
            "fair",
        ),
        (
            "The yard is evenly lit. Therefore, this is a picture of average quality.",
            "The yard is evenly lit.",
            "Therefore, this is a picture of average quality.",
            "fair",
        ),
        (
            "The dolls are clear. Therefore, the quality of this image is considered medium.",
            "The dolls are clear.",
            "Therefore, the quality of this image is considered medium.",
            "fair",
        ),
        (
            "Flare hides the bridge, so the overall quality of this image is bad",
            "Flare hides the bridge.",
            "so the overall quality of this image is bad",
            "bad",
        ),
        (
            "The light is soft and the quality of this image is good.",
            "The light is soft.",
            "and the quality of this image is good.",
            "good",
        ),
        (
            "The blur leads to poor image quality.",
            "",
            "The blur leads to poor image quality.",
            "poor",
        ),
        (
            "The grass is smeared, giving viewers a soft view, and that means low image quality.",
            "The grass is smeared, giving viewers a soft view.",
            "and that means low image quality.",
            "poor",
        ),
        (
            "The grass is smeared, which clearly leads to poor image quality.",
            "The grass is smeared.",
            "which clearly leads to poor image quality.",
            "poor",
        ),
        ("The picture is dim. Overall, it's a decent photo.", "The picture is dim.", None, "fair"),
        ("Sharp. Overall quality: good.", "Sharp.", "Overall quality: good.", "good"),
        ("Soft. The quality isn’t bad.", "Soft.", "The quality isn’t bad.", "fair"),
        ("Dim. In general, quality is below average!", "Dim.", None, "poor"),
        ("One line\nThe image has excellent quality", "One line", None, "excellent"),
    ],
)
def test_forms_of_conclusions(
    text: str, description: str, conclusion: str | None, level: str
) -> None:
    parts = decompose(text)
    assert (parts.description, parts.level) == (description, level)
    if conclusion is not None:
        assert parts.conclusion == conclusion


@pytest.mark.parametrize(
    ("text", "description"),
    [
        (
            "The quality of this image is poor because the runner is smeared.",
            "Because the runner is smeared.",
        ),
        (
            "It snows. Overall, it is a good picture, but the left corner is dark. It is cold.",
            "It snows. But the left corner is dark. It is cold.",
        ),
        (
            "The quality of this image is poor and the colours of the flag are dull.",
            "The colours of the flag are dull.",
        ),
        ("The image quality is low. The grass is blurred.", "The grass is blurred."),
    ],
)
def test_reasons_after_the_conclusion_stay_in_the_description(text: str, description: str) -> None:
    assert decompose(text).description == description


def test_the_last_statement_is_the_conclusion_and_earlier_ones_are_flagged() -> None:
    parts = decompose("The image quality is poor. It is dark. Therefore, the quality is very poor.")
    assert parts == Feedback(
        description="The image quality is poor. It is dark.",
        conclusion="Therefore, the quality is very poor.",
        words="very poor",
        level="bad",
        restated=("poor",),
    )
    mentioned = decompose("This low-quality photo is dark. The quality of this image is poor.")
    assert mentioned.restated == ("poor",)
    assert decompose("The clarity is good. The quality of this image is good.").restated == ()


def test_negation_is_part_of_the_words() -> None:
    parts = decompose("The quality of this image is not very good.")
    assert (parts.words, parts.level) == ("not very good", "poor")


@pytest.mark.parametrize(
    "text",
    [
        "The brightness of the image is good. The clarity of this image is acceptable.",
        "The quality of this image is average to good.",
        "One would expect this of a high-quality photo.",
        "  ",
    ],
)
def test_a_text_without_conclusion_stays_whole(text: str) -> None:
    parts = decompose(text)
    assert (parts.description, parts.conclusion, parts.level) == (text.strip(), "", None)


def test_named_levels_one_for_each_sentence_that_names_any() -> None:
    text = "It is dark. The image quality is poor, it is a bad picture. This is a good photo!"
    assert named_levels(text) == ("bad", "good")


def test_coverage_counts_and_reads_well() -> None:
    texts = [
        "It is dark. The quality of this image is poor.",
        "The image quality is low. It is dark. The quality of this image is poor.",
        "The quality of this image is very good.",
        "A cat sleeps.",
    ]
    found = coverage(map(decompose, texts))
    assert (found.total, found.matched, found.bare, found.restated) == (4, 3, 1, 1)
    assert found.levels == {"bad": 0, "poor": 2, "fair": 0, "good": 0, "excellent": 1}
    assert found.unmatched == ("A cat sleeps.",)
    assert str(found).splitlines() == [
        "3 of 4 feedbacks conclude the quality: 0 bad, 2 poor, 0 fair, 0 good, 1 excellent",
        "1 of them name a level in the description too, 1 have no description",
        "1 without a conclusion are kept whole",
        "  such as: ...A cat sleeps.",
    ]
    assert coverage([]).matched == 0


def test_the_verdicts_of_the_embedded_data_set_are_understood() -> None:
    for level, verdicts in zip(reversed(LEVELS), VERDICTS, strict=True):
        for verdict in verdicts:
            parts = decompose(f"A plain scene. {verdict}")
            assert (parts.level, parts.description[:14]) == (level, "A plain scene.")


def test_answers_of_real_training_files_are_all_understood(shared: Path) -> None:
    for name in ("train_koniq_sample.json", "train_koniq_qsit_sample.json"):
        for record in json.loads((shared / "data/texts" / name).read_text()):
            answer = record["conversations"][-1]["value"]
            assert decompose(answer).level == answer.rstrip(".").split()[-1]


def test_on_real_reasoning_levels_follow_the_ratings_of_their_writer(shared: Path) -> None:
    """Their writer gave a rating with each text; no level may be far from it."""
    records = json.loads((shared / "data/texts/baseline_v11_livew.json").read_text())
    pairs = []
    for record in records:
        parts = decompose(tagged(record["perception_text"], "think") or "")
        assert parts.level is None or (parts.words and parts.conclusion)
        if parts.level:
            pairs.append((LEVELS.index(parts.level) + 1, record["overall_score"]))
    assert len(pairs) > 150
    assert sum(abs(level - rating) > 1.3 for level, rating in pairs) <= 0.02 * len(pairs)
