"""Leaked scores: their forms, their masking, and their frequency in real captions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lit_biqa.text.leakage import SCORE_WORDS, Mode, leaks, level_words, mask, ratings
from lit_biqa.text.parsing import read


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a rating of 3.7 could be reasonable", (3.7,)),
        ("rated 4.12.", (4.12,)),
        ("(2.50), maybe 2.6!", (2.5, 2.6)),
        ("3.5/5", (3.5,)),
        ("1.0 to 5.0", (1.0, 5.0)),
        ("5.1 or 0.9 or 6.0", ()),
        ("3 people, 4 cats", ()),
        ("taken at f/2.8 with 2.5x zoom", ()),
        ("13.5 and 3.125 and 1.2.3 and 4.5%", ()),
        ("4,5 or 1,234.5", ()),
        ("v2.0", ()),
        ("", ()),
    ],
)
def test_ratings(text: str, found: tuple[float, ...]) -> None:
    assert ratings(text) == found
    assert leaks(text) is bool(found)


def test_level_words() -> None:
    assert level_words("Good light, a poor, unfair frame; EXCELLENT.") == (
        "good",
        "poor",
        "excellent",
    )


TEXT = "Good goodness: a good, moderately lit, Poor man's picture of 12 cats, 3.70 of 5."


@pytest.mark.parametrize(
    ("mode", "left"),
    [
        ("substring", "Good ness: a , ly lit, Poor man's picture of 12 cats, 3.70 of 5."),
        ("words", " goodness: a , moderately lit,  man's picture of 12 cats, 3.70 of 5."),
        ("numbers", "Good goodness: a good, moderately lit, Poor man's picture of  cats,  of ."),
        ("both", " goodness: a , moderately lit,  man's picture of  cats,  of ."),
    ],
)
def test_mask(mode: Mode, left: str) -> None:
    assert mask(TEXT, mode) == left


# Measured on the first 375 images for the models that were trained with a second pass.
@pytest.mark.parametrize(
    ("file", "images", "leaking"),
    [
        ("baseline_v11_agiqa", 2982, 0),
        ("baseline_v11_livew", 1169, 0),
        ("selfconsistency_v13_agiqa_p0", 375, 65),
        ("autoencoder_v14_agiqa_p0", 375, 0),
    ],
)
def test_real_captions(shared: Path, file: str, images: int, leaking: int) -> None:
    records = json.loads((shared / f"data/texts/{file}.json").read_text())
    captions = [read(record["perception_text"]).caption for record in records]
    assert (len(captions), sum(map(leaks, captions))) == (images, leaking)
    assert not any(leaks(mask(caption, "numbers")) for caption in captions)
    masked = [mask(caption, "both") for caption in captions]
    assert not any(word in level_words(text) for text in masked for word in SCORE_WORDS)


def test_most_leaked_numbers_are_the_score_itself(shared: Path) -> None:
    file = shared / "data/texts/selfconsistency_v13_agiqa_p0.json"
    pairs = [
        (ratings(read(record["perception_text"]).caption), record["overall_score"])
        for record in json.loads(file.read_text())
    ]
    assert sum(score in found for found, score in pairs) == 47
