"""What is taken out of a completion, and that a rating never is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lit_biqa.text.parsing import tagged, without_answer

COMPLETION = (
    "<caption>\nA cat.\n</caption>\n<think>\nIt is sharp,\nbut dark.\n</think>\n"
    '<answer>\n{"rating": 2.80}\n</answer>'
)


@pytest.mark.parametrize(
    ("completion", "tag", "expected"),
    [
        (COMPLETION, "caption", "A cat."),
        (COMPLETION, "think", "It is sharp,\nbut dark."),
        (COMPLETION, "describe", None),
        ("<think>cut off", "think", None),
        ("<think></think>", "think", ""),
        ("<think>one</think><think>two</think>", "think", "one"),
        ("<think>a <caption>b</think>", "think", "a b"),
        ("<think>good <answer>4.5</answer> end</think>", "think", "good  end"),
        ("<think>good <answer>4.5</think>", "think", "good"),
        ("<a.b>x</a.b>", "a.b", "x"),
        ("<aXb>x</aXb>", "a.b", None),
    ],
)
def test_tagged(completion: str, tag: str, expected: str | None) -> None:
    assert tagged(completion, tag) == expected


def test_a_whole_completion_loses_its_answer() -> None:
    assert without_answer(COMPLETION) == "A cat.\n\n\nIt is sharp,\nbut dark."
    assert without_answer("It is sharp. <answer>4.2") == "It is sharp."
    assert without_answer(" plain ") == "plain"


def test_real_completions_have_a_think_part_and_it_has_no_rating(shared: Path) -> None:
    records = json.loads((shared / "data/texts/baseline_v11_agiqa.json").read_text())
    for record in records:
        think = tagged(record["perception_text"], "think")
        assert think
        assert 'rating"' not in think
        assert "<" not in think
