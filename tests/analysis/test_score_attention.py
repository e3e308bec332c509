"""Attention at the digits of a rating: the segments, the words, and sums by hand."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import matplotlib.figure
import pytest
import torch
from rated import FAMILIES, given, loaded
from scripted import ANSWERS, CAPTIONS, RATINGS, THOUGHTS, script

from lit_biqa.analysis.attention import eager
from lit_biqa.analysis.csv_rows import Who
from lit_biqa.analysis.score_attention import (
    ALL,
    FIRST,
    ScoreAttention,
    ScoreLook,
    WordWeight,
    score_looks,
    word_shares,
    word_weights,
    write_score_attention,
)
from lit_biqa.analysis.score_figures import score_attention_figure, words_figure
from lit_biqa.analysis.score_states import SEGMENTS, RatedAnswer, context, rated_answers
from lit_biqa.backbones.inputs import prompts_of
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.readouts.ratings import Rated
from lit_biqa.text.parsing import rating_span
from lit_biqa.types import InputError, ask

WHO = Who("own", "all", 0, "a.png")
READOUT = Rated(at_once=2)


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> VisionLanguageModel:
    return loaded(request.param)


def squeezed(text: str) -> str:
    return "".join(text.split())


def test_tokens_of_each_segment_spell_it(
    model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch)
    for row, answer in enumerate(rated_answers(model, READOUT, "image", given(model))):
        assert (answer.row, answer.score) == (row, float(RATINGS[row]))
        found = context(model, answer)
        ids = found.row.ids
        assert torch.equal(found.segment == SEGMENTS.index("image"), found.row.image)
        for name, text in (("caption", CAPTIONS[row]), ("reasoning", THOUGHTS[row])):
            spelled = model.text(ids[found.segment == SEGMENTS.index(name)].tolist())
            assert squeezed(text) in squeezed(spelled)
            assert len(squeezed(spelled)) <= len(squeezed(text)) + 2  # a token with a bracket
        digits = squeezed(model.text([int(ids[place]) for place in found.digits]))
        assert digits == RATINGS[row].replace(".", "")
        assert squeezed("".join(found.pieces.values())).count(squeezed(CAPTIONS[row])) == 1


def test_a_rating_after_a_reasoning_that_is_not_closed_has_its_digits(
    model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, [ANSWERS[0].replace("</think>", "")])
    answers = rated_answers(model, READOUT, "image", given(model))
    found = context(model, answers[0])
    digits = squeezed(model.text([int(found.row.ids[place]) for place in found.digits]))
    assert digits == RATINGS[0].replace(".", "")
    assert len(score_looks(model, given(model), answers, 2)) == len(answers)


@pytest.mark.parametrize(
    ("text", "reasoning"),
    [
        (r"It is sharp. \boxed{4}", "It is sharp."),
        ("<think>Blurry.</think> So it is \\boxed{2}", "Blurry."),
        ("<think>Blurry. \\boxed{2}", "Blurry."),
        (r"\boxed{3}", ""),
    ],
)
def test_a_boxed_rating_needs_no_tags(text: str, reasoning: str) -> None:
    model = loaded("timm")
    span = rating_span(text, "boxed")
    assert span is not None
    answer = RatedAnswer(0, ask("Rate it."), "", None, tuple(model.tokenize(text)), text, span)
    pieces = squeezed("".join(context(model, answer).pieces.values()))
    assert squeezed(reasoning) in pieces
    assert len(pieces) <= len(squeezed(reasoning)) + 2 * bool(reasoning)  # a token with a bracket


def test_a_text_condition_finds_the_text_in_the_question(
    model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch)
    readout = Rated(texts=("caption",), at_once=2)
    answers = rated_answers(model, readout, "text", given(model))
    assert [answer.chat.pixels for answer in answers] == [None] * 3
    found = context(model, answers[1])
    assert squeezed(CAPTIONS[1]) in squeezed("".join(found.pieces.values()))
    assert not (found.segment == SEGMENTS.index("image")).any()
    looks = score_looks(model, given(model), answers, 2)
    torch.testing.assert_close(looks[0].all.sum(1), torch.ones(len(looks[0].all)))


@torch.no_grad()
def test_shares_are_those_of_the_whole_map(
    model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch)
    answers = rated_answers(model, READOUT, "image", given(model))
    looks = score_looks(model, given(model), answers, 2)
    found = context(model, answers[0])
    with eager(model):
        inputs = prompts_of([found.row])
        maps = model(lambda m: m.hidden(inputs, output_attentions=True)).attentions
    rows = torch.stack([layer[0].mean(0) for layer in maps])  # [K, L, L]
    assert len(found.digits) == 3
    shares = []
    for place in found.digits:  # the token before a digit predicts it
        row = rows[:, place - 1, :place]
        parts = [row[:, found.segment[:place] == s].sum(1) for s in range(len(SEGMENTS))]
        shares.append(torch.stack(parts, 1))
    torch.testing.assert_close(looks[0].first, shares[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(looks[0].all, torch.stack(shares).mean(0), atol=1e-5, rtol=1e-4)
    words = sum(word.last for word in looks[0].words)
    texts = looks[0].all[-1, 2:4].sum()
    assert 0.4 * float(texts) < words <= float(texts) + 1e-5  # punctuation is no word


def test_answers_without_a_rating_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded("timm")
    script(monkeypatch, [ANSWERS[0], "<think>\nhm\n</think>", ANSWERS[2]])
    assert [a.row for a in rated_answers(model, READOUT, "image", given(model))] == [0, 2]
    with pytest.raises(InputError, match="no answer has a rating"):
        ScoreAttention.of([])


def test_words_by_hand() -> None:
    pieces = {3: " blur", 4: "ry,", 5: " dark", 9: "Dark", 10: "ly 3"}
    weights = torch.zeros(12)
    weights[[3, 4, 5, 9, 10]] = torch.tensor([0.1, 0.2, 0.05, 0.25, 0.15])
    words = list(word_weights(pieces, weights, 2 * weights))
    assert [word.word for word in words] == ["blurry", "dark", "darkly"]
    assert [word.mean for word in words] == pytest.approx([0.3, 0.05, 0.4])
    assert [word.last for word in words] == pytest.approx([0.6, 0.1, 0.8])


def look(first: list[float], tokens: list[int], words: list[WordWeight]) -> ScoreLook:
    shares = torch.tensor([first, first])
    return ScoreLook(WHO, 3.0, shares, shares, torch.tensor(tokens), words)


LOOKS = [
    look([0.5, 0.1, 0.0, 0.3, 0.1], [4, 2, 0, 2, 2], [WordWeight("blurry", 0.2, 0.1)]),
    look(
        [0.1, 0.1, 0.0, 0.7, 0.1],
        [4, 2, 0, 2, 2],
        [WordWeight("blurry", 0.2, 0.1), WordWeight("the", 0.5, 0.1), WordWeight("dark", 0.4, 0.2)],
    ),
]


def test_means_by_hand(tmp_path: Path) -> None:
    found = ScoreAttention.of(LOOKS)
    assert found.mean[ALL][-1].tolist() == pytest.approx([0.3, 0.1, 0.0, 0.5, 0.1])
    assert float(found.sd[FIRST][0, 0]) == pytest.approx(0.4 / math.sqrt(2))
    assert float(found.times_uniform[ALL][0, 0]) == pytest.approx((1.25 + 0.25) / 2)
    assert math.isnan(float(found.times_uniform[ALL][0, 2]))
    assert found.of_text(-1) == pytest.approx(0.5 / 0.8)
    blurry, dark = word_shares(LOOKS)
    assert (blurry.word, blurry.count, dark.count) == ("blurry", 2, 1)
    assert (blurry.mean, dark.last) == pytest.approx((0.5, 0.5))
    # Of three words each would have a third; two occurrences of "blurry" have a half.
    assert blurry.times_uniform == pytest.approx(0.75)
    write_score_attention(tmp_path, found)
    with (tmp_path / "score_attention.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[3]["segment"] == "reasoning"
    assert float(rows[3]["share_mean"]) == 0.5
    with (tmp_path / "score_attention_words.csv").open(newline="") as file:
        assert next(iter(csv.DictReader(file)))["word"] == "blurry"


def test_figures_say_what_they_show() -> None:
    result = ScoreAttention.of(LOOKS)
    figure = score_attention_figure(result, "run")
    assert "the text gets 62% (mean of all layers)" in figure.get_suptitle()
    texts = [t.get_text() for t in figure.findobj(matplotlib.text.Text)]
    assert "reasoning (2 tokens)" in texts
    assert not any(text.startswith("caption") for text in texts)
    words = words_figure(word_shares(LOOKS), 2, "run")
    assert "“blurry” gets most" in words.get_suptitle()
    assert "n = 2 images" in words.get_suptitle()
