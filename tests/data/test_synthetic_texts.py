from __future__ import annotations

import re

import pytest
from numpy.random import default_rng

from lit_biqa.data.distortions import DISTORTIONS
from lit_biqa.data.pseudo_mos import Content
from lit_biqa.data.synthetic_texts import CAPTIONS, FAULTS, PRISTINE, reasonings

CONTENT = Content(0.4, 0.6)
TYPES = (PRISTINE, *DISTORTIONS)


def test_every_type_has_its_words() -> None:
    assert set(FAULTS) == set(TYPES)
    phrases = [phrase for choices in FAULTS.values() for phrase in choices]
    assert len(set(phrases)) == len(phrases)


@pytest.mark.parametrize("kind", TYPES)
def test_texts_are_short_sentences_without_numbers(kind: str) -> None:
    for quality in (1.0, 2.5, 5.0):
        for text in reasonings(kind, quality, CONTENT, 6, default_rng(0)):
            assert not re.search(r"[0-9{}]", text)
            assert re.fullmatch(r"([A-Z][^.]+\. ?){4}", text)
            assert "varied" in text and 15 <= len(text.split()) <= 60


def test_texts_of_one_image_differ_and_follow_from_the_seed() -> None:
    first = reasonings("jpeg", 2.0, CONTENT, len(CAPTIONS), default_rng(1))
    assert len(set(first)) == len(CAPTIONS)
    assert first == reasonings("jpeg", 2.0, CONTENT, len(CAPTIONS), default_rng(1))
    assert first != reasonings("jpeg", 2.0, CONTENT, len(CAPTIONS), default_rng(2))
    assert reasonings("jpeg", 2.0, CONTENT, 0, default_rng(1)) == ()


@pytest.mark.parametrize("kind", TYPES)
def test_a_text_names_the_fault_of_its_type_and_of_no_other(kind: str) -> None:
    (text,) = reasonings(kind, 2.2, CONTENT, 1, default_rng(3))
    fault = text.split(". ")[1]
    named = [other for other, phrases in FAULTS.items() if _matches(fault, phrases)]
    assert named == [kind]


def _matches(fault: str, phrases: tuple[str, ...]) -> bool:
    patterns = [re.escape(p.rstrip(".")).replace(r"\{how\}", r"\w+") for p in phrases]
    return any(re.fullmatch(pattern, fault) for pattern in patterns)


def test_verdicts_follow_the_quality() -> None:
    words = {
        4.8: r"excellent|very high",
        3.8: r"\bgood\b",
        3.0: r"fair|middling",
        2.0: r"poor|of low",
        1.2: r"\bbad\b|very low",
    }
    for quality, word in words.items():
        for text in reasonings("motion_blur", quality, CONTENT, 6, default_rng(4)):
            assert re.search(word, text.split(". ")[-1])
