"""Scores read from words: batched as one by one, and nothing by default."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.methods import reading
from lit_biqa.readouts import levels
from lit_biqa.readouts.base import Readout
from lit_biqa.readouts.words import Words
from lit_biqa.rollout.engine import Sampling
from lit_biqa.text import prompts
from lit_biqa.text.conclusions import decompose
from lit_biqa.text.levels import LEVELS
from lit_biqa.types import Batch, InputError, Sample, ask

SHORT = Sampling(temperature=0.0, budget=6)
TEXTS = ["It is sharp.", "", "The image is blurry, noisy and dark; the lighting is poor."]


@pytest.fixture(scope="module", params=[TinyMplugOwl2, TinyQwenVL])
def model(request: pytest.FixtureRequest) -> VisionLanguageModel:
    made: VisionLanguageModel = request.param(width=32, layers=2)
    made.load()
    return made


def batch(model: VisionLanguageModel, rows: range = range(3)) -> Batch:
    noise = np.random.default_rng(0)
    sizes = [(80, 60), (56, 56), (60, 100)]
    images = [Image.fromarray(noise.integers(0, 256, (*size, 3), np.uint8)) for size in sizes]
    columns = {
        "pixels": [model.image_transform(images[row]) for row in rows],
        "mos": torch.tensor([1.0, 3.0, 5.0])[list(rows)],
        "index": torch.tensor(list(rows)),
        "dataset": ["own" for _ in rows],
        "text": [TEXTS[row] for row in rows],
        "status": ["ok" for _ in rows],
    }
    return Batch(**columns)  # type: ignore[typeddict-item, no-any-return]


@pytest.mark.parametrize(
    "readout",
    [
        levels.LevelLogits(at_once=2),
        levels.FromDescription(at_once=2),
        levels.TwoPass(sampling=SHORT, at_once=2),
        levels.TwoPass(sampling=Sampling(budget=6), at_once=2),
        levels.OnePass(sampling=SHORT, at_once=2),
    ],
    ids=lambda readout: type(readout).__name__,
)
@torch.no_grad()
def test_a_batch_reads_what_each_image_does(model: VisionLanguageModel, readout: Readout) -> None:
    together = readout.read(model, batch(model))
    assert tuple(together) == readout.conditions
    for row in range(3):
        alone = readout.read(model, batch(model, range(row, row + 1)))
        for condition, verdicts in alone.items():
            found = together[condition][row]
            assert found.score == pytest.approx(verdicts[0].score, abs=1e-4, nan_ok=True)
            assert (found.text, found.level) == (verdicts[0].text, verdicts[0].level)


@torch.no_grad()
def test_a_score_is_the_mean_under_the_words_probabilities(model: VisionLanguageModel) -> None:
    words = Words({"good": 5.0, "fair": 3.0, "poor": 1.0})
    (verdict,) = levels.LevelLogits(words=words).read(model, batch(model, range(1)))["image"]
    pixels = batch(model)["pixels"][0]
    chat = ask(prompts.QALIGN_TEST_QUESTION, pixels, opening=prompts.QUALITY_OPENING)
    logits = model.head(model.hidden(model.encode([chat])).last_hidden_state[0, -1])
    odds = [math.exp(logits[model.answer(chat, word)[0]]) for word in ("good", "fair", "poor")]
    assert verdict.score == pytest.approx(
        (5 * odds[0] + 3 * odds[1] + odds[2]) / sum(odds), abs=1e-4
    )
    assert verdict.level == ("good", "fair", "poor")[odds.index(max(odds))]


def test_a_row_without_description_has_no_score(model: VisionLanguageModel) -> None:
    with torch.no_grad():
        found = levels.FromDescription().read(model, batch(model))["description"]
    assert [verdict.status for verdict in found] == ["ok", "no description", "ok"]
    assert math.isnan(found[1].score)


def test_words_that_are_no_single_tokens_are_refused(model: VisionLanguageModel) -> None:
    with pytest.raises(
        InputError, match="superb of the word set superb, poor are no single tokens"
    ):
        levels.LevelLogits(words=Words({"superb": 5.0, "poor": 1.0})).check(model)
    with pytest.raises(InputError, match="two different words"):
        levels.LevelLogits(words=Words({"poor": 1.0})).check(model)
    levels.TwoPass().check(model)
    assert len(Words().tokens(model)) == len(LEVELS)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("It is dark. Therefore, the quality of this image is very poor.", "bad"),
        ("good", "good"),
        ("Excellent.", "excellent"),
        ("The clarity of the image is good.", ""),
        ("The colours are good. The quality of the image is poor.", "poor"),
        ("good or poor", ""),
        ("The subject stands in good light", ""),
        ("", ""),
        ("Das Bild ist unscharf.", ""),
    ],
)
def test_an_answer_says_one_level_or_none(text: str, level: str) -> None:
    verdict = levels.spoken(text)
    assert (verdict.level, verdict.text) == (level, text)
    assert math.isnan(verdict.score) == (not level)
    assert (verdict.status == "ok") == bool(level)


def test_a_word_after_an_opening_is_a_verdict() -> None:
    for opening in ("The quality of the image is", "Rating:", ""):
        verdict = levels.spoken("Poor.", opening)
        assert (verdict.level, verdict.text) == ("poor", f"{opening} Poor.".strip())
    assert levels.spoken("clear, in good light", "The image is").status != "ok"


def test_real_reasonings_without_a_conclusion_have_no_level(shared: Path) -> None:
    """Released texts judge parts of an image; the word for a part is not the image's level."""
    records = json.loads((shared / "data/texts/baseline_v11_livew.json").read_text())
    texts = [record["perception_text"] for record in records]
    open_ended = [text for text in texts if decompose(text).level is None]
    named = [text for text in open_ended if set(re.findall("[a-z]+", text.lower())) & set(LEVELS)]
    assert len(named) > 100
    assert {levels.spoken(text).level for text in open_ended} == {""}


def test_what_a_model_says_is_parsed_without_a_default(model: VisionLanguageModel) -> None:
    with torch.no_grad():
        found = levels.GeneratedWord(sampling=SHORT).read(model, batch(model))["word"]
    for verdict in found:
        assert verdict == levels.spoken(verdict.text)


def test_rows_share_the_time_of_their_readout(
    model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    readouts = [levels.LevelLogits(), levels.TwoPass(sampling=SHORT)]
    some: Any = batch(model)
    some |= {"samples": [Sample("own", "all", i, "x", None, 3.0) for i in range(3)]}
    some |= {"split": ["all"] * 3, "name": ["x"] * 3}
    clock = SimpleNamespace(perf_counter=iter([0.0, 6.0, 10.0, 13.0]).__next__)
    monkeypatch.setattr(reading, "time", clock)
    rows: Any = reading.read_rows(model, readouts, some)
    times = [(row.condition, row.seconds) for row in rows]
    assert times == [(readouts[0].condition, 2.0)] * 3 + [("two-pass", 1.0)] * 3
