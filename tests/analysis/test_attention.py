"""Attention shares: they sum to one, and the segments cover every token."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from studied import (
    DESCRIBED,
    FAMILIES,
    LOGITS,
    ONE_PASS,
    SPOKEN,
    TEXTS,
    TWO_PASS,
    batch,
    opinionated,
)

from lit_biqa.analysis import answer_states as room
from lit_biqa.analysis.answer_states import moments
from lit_biqa.analysis.attention import (
    SEGMENTS,
    Attention,
    Look,
    attention,
    eager,
    last_attention,
    segments,
    shared_out,
    write_attention,
)
from lit_biqa.analysis.csv_rows import Who
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.readouts.base import Readout
from lit_biqa.types import InputError

WHO = Who("own", "all", 0, "a.png")


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> VisionLanguageModel:
    return opinionated(request.param)


@torch.no_grad()
def test_the_last_row_of_the_whole_map(model: VisionLanguageModel) -> None:
    found = [each for way in (LOGITS, DESCRIBED) for each in moments(model, way, batch(model))]
    inputs = model.encode([moment.chat for moment in found])
    assert not inputs.mask.all()
    before = model.model.config._attn_implementation
    weights = model(last_attention, inputs)
    assert model.model.config._attn_implementation == before != "eager"
    with eager(model):
        maps = model.hidden(inputs, output_attentions=True).attentions
    whole = torch.stack([layer[:, :, -1].mean(1) for layer in maps], 1)
    torch.testing.assert_close(weights, whole, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(weights.sum(2), torch.ones(6, 4))
    assert weights.masked_select(~inputs.mask[:, None]).abs().max() == 0
    assert weights.max() > 3 / inputs.ids.shape[1]  # far from uniform, or nothing was compared


@pytest.mark.parametrize("readout", [LOGITS, ONE_PASS, TWO_PASS, DESCRIBED])
def test_segments_cover_everything(model: VisionLanguageModel, readout: Readout) -> None:
    given = batch(model)
    for moment in moments(model, readout, given):
        found = segments(model, moment)
        row = model.encode([moment.chat])
        assert found.shape == row.ids[0].shape
        assert torch.equal(found == SEGMENTS.index("image"), row.image[0])
        described = found == SEGMENTS.index("description")
        assert bool(described.any()) == (readout is not LOGITS)
    shares = attention(model, readout, [given]).mean.sum(1)
    torch.testing.assert_close(shares, torch.ones(5))


def test_tokens_of_the_description_spell_it(model: VisionLanguageModel) -> None:
    for moment in moments(model, DESCRIBED, batch(model)):
        found = segments(model, moment) == SEGMENTS.index("description")
        ids = model.encode([moment.chat]).ids[0, found].tolist()
        assert model.text(ids).strip() == TEXTS[moment.row]


def test_an_answer_is_looked_from_where_its_own_word_begins(
    model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["It is dim. The quality of the image is very poor.", "A cat.", "Good."]
    monkeypatch.setattr(room, "answers_to", lambda *_: texts)
    first, last = moments(model, SPOKEN, batch(model))
    assert (first.row, first.level, last.row, last.level) == (0, "bad", 2, "good")
    assert first.chat.opening == "It is dim. The quality of the image is"
    assert (last.chat.opening, last.marked) == ("", None)
    found = segments(model, first) == SEGMENTS.index("description")
    ids = model.encode([first.chat]).ids[0, found].tolist()
    assert model.text(ids).strip() == first.chat.opening


def test_shares_by_hand() -> None:
    weights = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.0, 0.5, 0.5, 0.0]])
    shares, tokens = shared_out(weights, torch.tensor([2, 0, 0, 1]))
    torch.testing.assert_close(shares, torch.tensor([[0.5, 0.4, 0.1], [1.0, 0.0, 0.0]]))
    assert tokens.tolist() == [2, 1, 1]


def test_samples_brought_together_by_hand(tmp_path: Path) -> None:
    one = Look(
        WHO,
        torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.75, 0.0]]),
        torch.tensor([2, 4, 2]),
        torch.tensor([[0.1, 0.4], [0.05, 0.2]]),
    )
    two = Look(
        WHO,
        torch.tensor([[0.0, 0.75, 0.25], [0.0, 0.25, 0.75]]),
        torch.tensor([0, 3, 1]),
        torch.zeros(2, 0),
    )
    found = Attention.of([one, two])
    torch.testing.assert_close(found.mean[0], torch.tensor([0.25, 0.5, 0.25]))
    torch.testing.assert_close(found.mean[-1], torch.tensor([0.1875, 0.5, 0.3125]))
    assert float(found.sd[0, 1]) == pytest.approx(0.5 / math.sqrt(2))
    # of the image only the first sample; of the description 0.25 / (4/8) and 0.75 / (3/4)
    torch.testing.assert_close(found.times_uniform[0], torch.tensor([2.0, 0.75, 1.0]))
    torch.testing.assert_close(found.image[-1], torch.tensor([0.075, 0.3]))
    assert (found.image_samples, found.tokens.tolist()) == (1, [1.0, 3.5, 1.5])

    write_attention(tmp_path, found)
    with (tmp_path / "attention.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1] == ["1", "image", "1.000000", "0.250000", "0.353553", "2.000000"]
    assert [row[0] for row in rows[1::3]] == ["1", "2", "mean"]
    with (tmp_path / "attention_samples.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[2][4:] == ["last", "2", "4", "2", "0.250000", "0.750000", "0.000000"]
    with (tmp_path / "attention_image_tokens.csv").open(newline="") as file:
        assert list(csv.reader(file))[2] == ["2", "0.300000", "0.200000"]


def test_no_image_in_the_context_writes_no_image_tokens(
    model: VisionLanguageModel, tmp_path: Path
) -> None:
    found = attention(model, DESCRIBED, [batch(model, ("ok", "unreadable", "ok"))])
    assert (len(found.looks), found.image_samples) == (2, 0)
    assert torch.isnan(found.times_uniform[:, 0]).all()
    write_attention(tmp_path, found)
    assert not (tmp_path / "attention_image_tokens.csv").exists()


def test_mixed_precision_sums_exactly(model: VisionLanguageModel) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = attention(model, LOGITS, [batch(model)])
    assert found.mean.dtype == torch.float32
    torch.testing.assert_close(found.mean.sum(1), torch.ones(5), atol=2e-3, rtol=0)


def test_answers_without_a_word_leave_nothing_to_look_from(model: VisionLanguageModel) -> None:
    with pytest.raises(InputError, match="no answer has a quality word"):
        attention(model, SPOKEN, [batch(model)])
