"""ROUGE-1 by hand, and equal to the package rouge-score on real texts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

from lit_biqa.text.rouge import FUNCTION_WORDS, Overlap, rouge1


def test_by_hand() -> None:
    found = rouge1("The cat, the CAT and the dog", "a cat and the cat's dog sleep")
    # shared: the, cat, cat, and, dog, of 7 and of 8 ("cat's" is two words)
    assert found == Overlap(5 / 7, 5 / 8, 2 * 5 / (7 + 8))


def test_digits_and_words_left_out_do_not_count() -> None:
    assert rouge1("4.12", "4.12") == Overlap(0.0, 0.0, 0.0)
    assert rouge1("rated 4", "rated 5").f == 1.0
    assert rouge1("the cat", "the dog", FUNCTION_WORDS).f == 0.0
    assert rouge1("the sharp cat", "a sharp dog", FUNCTION_WORDS).f == 0.5


@pytest.mark.parametrize(("text", "reference"), [("", "a"), ("a", ""), ("", ""), ("!", "!")])
def test_texts_without_words(text: str, reference: str) -> None:
    assert rouge1(text, reference) == Overlap(0.0, 0.0, 0.0)


def test_words_of_any_alphabet_count() -> None:
    assert rouge1("das Bild ist schön", "schön ist das Bild").f == 1.0


def test_equals_the_package_on_real_texts(shared: Path) -> None:
    records = json.loads((shared / "data/texts/baseline_v11_livew.json").read_text())[:200]
    scorer = RougeScorer(["rouge1"], use_stemmer=False)
    for record in records:
        # The package counts digits and ends words at underscores and at letters that are not ASCII.
        text, reference = (
            re.sub(r"[^a-zA-Z\s.,'-]", " ", record[f"{name}_text"])
            for name in ("perception", "reasoning")
        )
        expected = scorer.score(reference, text)["rouge1"]
        assert expected.fmeasure > 0.1
        found = rouge1(text, reference)
        assert (found.precision, found.recall) == (expected.precision, expected.recall)
        assert found.f == pytest.approx(expected.fmeasure, rel=1e-12)
