"""Sampled predictions: their number, their seeds and their levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from studied import DESCRIBED, FAMILIES, LOGITS, ONE_PASS, SPOKEN, TEXTS, TWO_PASS, batch

from lit_biqa.analysis import answers
from lit_biqa.analysis.answers import Asked, ask_sessions, sampled, suits
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.readouts.base import Readout, Verdict
from lit_biqa.rollout.engine import ChatModel, Sampling
from lit_biqa.types import Batch, Chat, Completion, InputError, Sample


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> VisionLanguageModel:
    made: VisionLanguageModel = request.param(width=32, layers=2)
    made.load()
    return made


class Script:
    """Stands in for the model's writing: says what was written for it, and notes what was asked."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.asked = list(texts), list[Chat]()

    def __call__(
        self,
        model: VisionLanguageModel,
        chats: Sequence[Chat],
        n: int,
        sampling: Sampling,
        seeds: Sequence[int],
        at_once: int,
    ) -> list[list[Completion]]:
        self.asked += chats
        assert len(set(seeds)) == len(chats)
        return [[Completion((), self.texts.pop(0)) for _ in range(n)] for _ in chats]


def scripted(
    monkeypatch: pytest.MonkeyPatch, model: VisionLanguageModel, readout: Readout, *texts: str
) -> tuple[list[Asked], Script]:
    script = Script(*texts)
    monkeypatch.setattr(answers, "generate", script)
    given = batch(model, ("ok", "unreadable", "ok"))
    return ask_sessions(model, readout, [given], 2, 1, 0.2, 0), script


def levels(asked: list[Asked]) -> list[list[str]]:
    return [[verdict.level for session in each.sessions for verdict in session] for each in asked]


def test_one_stage_reads_the_answer_to_the_image(
    monkeypatch: pytest.MonkeyPatch, model: VisionLanguageModel
) -> None:
    said = ["It is dim. The quality of the image is very poor.", "A cat.", "", ""]
    found, script = scripted(monkeypatch, model, SPOKEN, *said, "Good.", "good or poor")
    assert levels(found) == [["bad", ""], ["good", ""]]
    assert [each.who.name for each in found] == ["a.png", "c.png"]
    assert all(chat.pixels is not None for chat in script.asked)
    assert found[0].sessions[1][0].status == "no conclusion in the answer"


def test_two_stages_draw_a_description_and_then_a_word_from_it(
    monkeypatch: pytest.MonkeyPatch, model: VisionLanguageModel
) -> None:
    described = [f"Description {number}." for number in range(6)]
    words = ["poor.", "very good, since", "", "", "purple", "fair"]
    found, script = scripted(monkeypatch, model, TWO_PASS, *described, *words)
    assert levels(found) == [["poor", "excellent"], ["", "fair"]]
    second = script.asked[3:]
    assert [chat.pixels for chat in second] == [None] * 6
    assert all(text in chat.messages[0].text for text, chat in zip(described, second, strict=True))
    assert found[0].sessions[0][0].text == "Description 0. The quality of the image is poor."


def test_words_after_an_opening(
    monkeypatch: pytest.MonkeyPatch, model: VisionLanguageModel
) -> None:
    found, script = scripted(monkeypatch, model, DESCRIBED, *("poor", "good.") * 3)
    assert levels(found) == [["poor", "good"]] * 2
    assert [text in chat.messages[0].text for text, chat in zip(TEXTS, script.asked, strict=True)]
    assert all(chat.pixels is None for chat in script.asked)


@pytest.mark.parametrize("readout", [ONE_PASS, TWO_PASS, LOGITS])
def test_draws_follow_from_seed_and_image(model: VisionLanguageModel, readout: Readout) -> None:
    def texts(seed: int) -> list[list[str]]:
        drawn = sampled(model, readout, batch(model), 2, 1.0, seed)
        return [[verdict.text for verdict in each] for each in drawn]

    first = texts(0)
    assert [len(each) for each in first] == [2, 2, 2]
    assert first == texts(0) != texts(1)
    assert len({text for each in first for text in each}) > 3


def test_a_readout_without_words_is_refused(model: VisionLanguageModel) -> None:
    class Rating(Readout):
        conditions = ("rating",)

        def read(self, model: ChatModel, batch: Batch) -> dict[str, list[Verdict]]:
            raise AssertionError

        def check(self, model: VisionLanguageModel) -> None:
            """Nothing to refuse."""

    with pytest.raises(InputError, match="Rating reads no quality word"):
        sampled(model, Rating(), batch(model), 1, 1.0, 0)


def test_what_readouts_need(tmp_path: Any) -> None:
    image = Sample("own", "all", 0, "a.png", tmp_path)
    text = Sample("own", "all", 0, "a", None, texts=("It is dark.",))
    assert [suits(TWO_PASS, each) for each in (image, text)] == [True, False]
    assert [suits(DESCRIBED, each) for each in (image, text)] == [False, True]
