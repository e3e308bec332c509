"""Sentences that give a rating are taken out, and no others."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lit_biqa.text.leakage import leaks
from lit_biqa.text.parsing import tagged
from lit_biqa.text.ratings import rates, without_ratings

RATE = """
I would rate it 2.5 out of 5.
The rating I would give is 2.80.
Rating: 3.22
Overall, the image quality appears to be around a 2.5.
A rating below 3 would be reasonable.
However, it can be rated slightly above 1 in terms of quality.
This image would score much lower than 3 out of 5.
A score between 2 and 3 is appropriate.
"""
RATE_NOT = """
The image shows a 3D model of a knight.
It seems to be of the late 19th century, with 2 figures.
The aperture may be f/2.8.
In rating the quality, one should consider the sharpness.
The music scores lie on 12 chairs.
An orchestra of 3 people plays in a room.
The frame rate of 30 is low.
"""


@pytest.mark.parametrize("sentence", RATE.strip().split("\n"))
def test_a_sentence_with_a_rating(sentence: str) -> None:
    assert rates(sentence)
    assert without_ratings(f"It is dim. {sentence} It is soft.").startswith("It is dim.")
    assert not re.search(r"\d", without_ratings(f"It is dim. {sentence}\nIt is soft."))


@pytest.mark.parametrize("sentence", RATE_NOT.strip().split("\n"))
def test_a_sentence_without(sentence: str) -> None:
    assert without_ratings(f"It is dim. {sentence}") == f"It is dim. {sentence}"


def test_what_stays_is_as_it_was() -> None:
    text = "It is dim.  I rate it 2.5. It is soft.\n\nA 3.0 fits."
    assert without_ratings(text) == "It is dim. It is soft."
    assert without_ratings("Rating: 3.22") == ""


@pytest.mark.parametrize(
    ("file", "field", "leaking"),
    [
        ("baseline_v11_agiqa", "caption", 0),
        ("baseline_v11_agiqa", "think", 4),
        ("selfconsistency_v13_agiqa_p0", "caption", 65),
    ],
)
def test_real_texts_lose_little_but_their_ratings(
    shared: Path, file: str, field: str, leaking: int
) -> None:
    records = json.loads((shared / f"data/texts/{file}.json").read_text())
    texts = [tagged(record["perception_text"], field) or "" for record in records]
    kept = [without_ratings(text) for text in texts]
    assert sum(map(leaks, texts)) == leaking
    assert not any(map(leaks, kept))
    words = sum(len(text.split()) for text in texts)
    assert sum(len(text.split()) for text in kept) > 0.95 * words
