"""Whatever a model writes is parsed, rewarded and masked without an error."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from lit_biqa.rewards import CosineScore, Format, Reward, StepScore
from lit_biqa.text.conclusions import decompose
from lit_biqa.text.leakage import leaks, mask, ratings
from lit_biqa.text.parsing import (
    leniently_formatted,
    read,
    read_degradation,
    strictly_formatted,
    tagged,
    without_answer,
)
from lit_biqa.text.ratings import without_ratings
from lit_biqa.text.rouge import rouge1
from lit_biqa.types import Completion, Group

PIECES = st.one_of(
    st.sampled_from(
        [
            *("<caption>", "</caption>", "<think>", "</think>", "<answer>", "</answer>"),
            *('{"rating": ', "3.25", "}", "{", '"', "\n", " ", "-", "5.", "nan", "1e9", "٣"),
            *('"distortion_class": "noise"', '"severity": "slight"', ", ", "The quality is good."),
        ]
    ),
    st.text(max_size=12),
)
COMPLETIONS = st.lists(PIECES, max_size=30).map("".join)


@given(completion=COMPLETIONS)
def test_any_completion_has_a_reading(completion: str) -> None:
    for form in ("json", "number"):
        reading = read(completion, form)
        assert (reading.score is not None) == (reading.status == "ok")
        assert reading.score is None or 1 <= reading.score <= 5
        assert "<answer>" not in reading.caption + reading.reasoning
    if strictly_formatted(completion):
        assert leniently_formatted(completion) and tagged(completion, "answer") is not None
    read_degradation(completion)


@given(completion=COMPLETIONS, other=COMPLETIONS)
def test_any_text_can_be_masked_compared_and_taken_apart(completion: str, other: str) -> None:
    assert all(1 <= rating <= 5 for rating in ratings(completion))
    assert not leaks(mask(completion, "numbers"))
    assert not leaks(without_ratings(completion))
    assert "answer>" not in without_answer(completion) or "answer>" in other + completion
    overlap = rouge1(completion, other)
    assert min(overlap.precision, overlap.recall, overlap.f) >= 0
    assert max(overlap.precision, overlap.recall, overlap.f) <= 1
    decompose(completion)


@given(completions=st.lists(COMPLETIONS, min_size=2, max_size=4), mos=st.floats(1, 5))
def test_any_completion_earns_a_finite_reward(completions: list[str], mos: float) -> None:
    answers = tuple(Completion((), text) for text in completions)
    group = Group(mos, math.nan, "own", 0, answers)
    rewards: list[Reward] = [
        StepScore(),
        CosineScore(),
        Format(),
        Format("lenient"),
        Format("prefix"),
    ]
    for reward in rewards:
        earned = reward([group])
        assert earned.shape == (1, len(completions))
        assert all(math.isfinite(value) and 0 <= value <= 1 for value in earned.flatten().tolist())
