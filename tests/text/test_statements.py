"""Which words state the quality of an image, and which only seem to."""

from __future__ import annotations

import pytest

from lit_biqa.text.statements import clause_end, level_of_words, opens_clause, statements


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ("excellent", "excellent"),
        ("very good", "excellent"),
        ("Very High", "excellent"),
        ("good", "good"),
        ("quite good", "good"),
        ("above average", "good"),
        ("medium", "fair"),
        ("acceptable", "fair"),
        ("average", "fair"),
        ("very average", "fair"),
        ("so-so", "fair"),
        ("below average", "poor"),
        ("slightly below-average", "poor"),
        ("rather low", "poor"),
        ("poor", "poor"),
        ("very poor", "bad"),
        ("extremely low", "bad"),
        ("terrible", "bad"),
        ("bad", "bad"),
        ("blurry", None),
        ("goodness", None),
        ("", None),
    ],
)
def test_free_words_mean_levels(words: str, level: str | None) -> None:
    assert level_of_words(words) == level


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ("good", "poor"),
        ("very good", "poor"),
        ("bad", "fair"),
        ("low", "fair"),
        ("excellent", None),
    ],
)
def test_negated_words(words: str, level: str | None) -> None:
    assert level_of_words(words, negated=True) == level


@pytest.mark.parametrize(
    "sentence",
    [
        "The brightness of the image is good.",
        "The colours in this picture are poor.",
        "The texture quality is good and the colour quality is poor.",
        "The quality of the light is high.",
        "The image is low.",
        "It is a high picture of towers.",
        "The quality of this image is average to good.",
        "The quality of this image is good/fair.",
        "The quality of this image is somewhere between fair and good.",
        "The quality of this image suffers from blur.",
        "A tripod could lead to a good picture.",
        "The poor lighting and low contrast spoil the mood.",
        "",
    ],
)
def test_sentences_that_state_no_quality(sentence: str) -> None:
    assert list(statements(sentence)) == []


def test_a_passing_mention_is_told_from_a_statement() -> None:
    for sentence in (
        "Who expects a high-quality photo?",
        "It will not lead to good image quality.",
    ):
        (mention,) = statements(sentence)
        assert (mention.form, mention.level) == ("mentioned", "good")
    forms = {each.form for each in statements("This is a high-quality photo.")}
    assert forms == {"has", "mentioned"}


def test_places_are_those_in_the_sentence() -> None:
    sentence = "Dark, so the quality of it all and the image quality is very poor today"
    (stated,) = statements(sentence)
    assert sentence[stated.start : stated.end] == "the image quality is very poor"
    assert stated.words == "very poor"


def before(head: str) -> str:
    return head[: clause_end(head, len(head))]


def test_openers_lead_to_a_clause() -> None:
    assert before("The sea is calm, and therefore, ") == "The sea is calm"
    assert before("The sea is calm; in conclusion, I think that ") == "The sea is calm"
    assert before("Overall, ") == ""
    assert before("The band ") == "The band"
    assert opens_clause("", len(""))
    assert opens_clause("The sea is calm and ", len("The sea is calm and "))
    assert not opens_clause("The light of ", len("The light of "))
