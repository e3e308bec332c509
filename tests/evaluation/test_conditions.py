"""Conditions and their form in the result files."""

from __future__ import annotations

import pytest

from lit_biqa.evaluation.conditions import IMAGE, Condition, parts


@pytest.mark.parametrize(
    ("form", "condition"),
    [
        ("image", Condition()),
        ("masked-image", Condition(prefix="masked-")),
        ("text", Condition("text")),
        ("text-words", Condition("text", "words")),
        ("reasoning, leaking", Condition("reasoning", part="leaking")),
        ("masked-text-both, clean", Condition("text", "both", "clean", "masked-")),
        ("image - text-words", Condition("text", "words", is_gap=True)),
        ("a/image - a/text, clean", Condition("text", "", "clean", "a/", is_gap=True)),
        ("two-pass", Condition("two-pass")),
        ("context", Condition("context")),  # a name that merely ends in one
        ("image - context", Condition("image - context")),
        ("image - a/text", Condition("text", prefix="image - a/")),  # of two readouts: no gap
    ],
)
def test_a_condition_is_read_as_it_is_written(form: str, condition: Condition) -> None:
    assert str(condition) == form
    assert Condition.parse(form) == condition


def test_what_a_condition_reads() -> None:
    assert IMAGE == "image"
    assert Condition.parse("masked-image").reads_image
    assert not Condition.parse("text").reads_image and not Condition.parse("word").reads_image
    assert Condition.parse("masked-text").reads_text
    assert not Condition.parse("image - text").reads_text
    assert not Condition.parse("image - text").reads_image
    assert parts("a-text") == ("a-text, leaking", "a-text, clean")
