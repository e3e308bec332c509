"""Layers read as words: the last is what the model says, the others by norm and head."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from studied import DESCRIBED, FAMILIES, LOGITS, ONE_PASS, SPOKEN, TWO_PASS, batch, opinionated

from lit_biqa.analysis.answer_states import moments
from lit_biqa.analysis.logit_lens import (
    counted,
    deep_layers,
    layer_logits,
    lens,
    token_names,
    write_lens,
)
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.readouts.base import Readout
from lit_biqa.readouts.words import next_logits
from lit_biqa.types import InputError


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> VisionLanguageModel:
    return opinionated(request.param)


def test_layers_from_the_thirtieth_or_the_last_tenth() -> None:
    assert deep_layers(32) == [30, 31, 32]
    assert deep_layers(36) == list(range(30, 37))
    assert deep_layers(31) == [28, 29, 30, 31]
    assert deep_layers(28) == [26, 27, 28]
    assert deep_layers(4) == [2, 3, 4]
    assert deep_layers(2) == [1, 2]
    assert deep_layers(32, 25) == list(range(25, 33))
    with pytest.raises(InputError, match="there is no layer 5: the decoder has 4"):
        deep_layers(4, 5)


@torch.no_grad()
def test_last_layer_is_what_the_model_says(model: VisionLanguageModel) -> None:
    chats = [moment.chat for moment in moments(model, LOGITS, batch(model))]
    inputs = model.encode(chats)
    own = model(next_logits, inputs).float()
    normed, bare = (model(layer_logits, inputs, [2, 3, 4], norm) for norm in (True, False))
    assert normed.shape == (3, 4, model.head.weight.shape[0])
    torch.testing.assert_close(normed[:, -2], own)
    assert torch.equal(normed[:, -1], bare[:, -1])
    torch.testing.assert_close(normed[:, -1], own)
    assert not torch.allclose(bare[:, -2], own, atol=1e-2)


@torch.no_grad()
def test_a_layer_is_read_through_norm_and_head(model: VisionLanguageModel) -> None:
    inputs = model.encode([moments(model, LOGITS, batch(model))[1].chat])
    states = model.hidden(inputs, output_hidden_states=True).hidden_states
    normed, bare = (model(layer_logits, inputs, [2, 4], norm) for norm in (True, False))
    expected = states[2][0, -1]
    torch.testing.assert_close(bare[0, 0], model.head(expected).float())
    torch.testing.assert_close(normed[0, 0], model.head(model.final_norm(expected)).float())


def test_counts_by_hand() -> None:
    first = torch.tensor([[0.4, 0.3, 0.15, 0.1, 0.05]])
    other = torch.tensor([[0.05, 0.5, 0.1, 0.15, 0.2]])
    best, among, total = counted(torch.stack([first, other]))
    assert best.tolist() == [[1, 1, 0, 0, 0]]
    assert among.tolist() == [[1, 2, 2, 2, 1]]
    torch.testing.assert_close(total, first + other)


@pytest.mark.parametrize("readout", [LOGITS, ONE_PASS, TWO_PASS, DESCRIBED])
def test_whole_lens(model: VisionLanguageModel, readout: Readout, tmp_path: Path) -> None:
    verdicts = next(iter(readout.read(model, batch(model)).values()))
    level = verdicts[0].level
    found = lens(model, readout, [batch(model)], level)
    names = [verdict.level == level for verdict in verdicts]
    assert len(found.samples) == sum(names)
    ones = torch.ones(3)
    torch.testing.assert_close(found.probability.sum(1), ones)
    torch.testing.assert_close(found.first.sum(1), ones)
    torch.testing.assert_close(found.among.sum(1), 4 * ones)
    write_lens(tmp_path, found)
    with (tmp_path / "logit_lens_samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.samples) * 3 * 4
    last = [row for row in rows if row["index"] == rows[0]["index"] and row["layer"] == "4"]
    assert [row["rank"] for row in last] == ["1", "2", "3", "4"]
    values = [float(row["probability"]) for row in last]
    assert values == sorted(values, reverse=True)


def test_samples_are_counted_at_the_level(model: VisionLanguageModel) -> None:
    """The paper: 300 samples that were predicted poor, not those among 300 samples."""
    rows = batch(model)
    verdicts = LOGITS.read(model, rows)["image"]
    level = verdicts[-1].level
    at_level = sum(verdict.level == level for verdict in verdicts)
    # Batches as often as it takes; others of the level come in the first ones.
    found = lens(model, LOGITS, [rows] * 5, level, most=2 * at_level + 1)
    assert len(found.samples) == 2 * at_level + 1
    torch.testing.assert_close(found.probability.sum(1), torch.ones(3))
    assert len(lens(model, LOGITS, [rows] * 5, level, most=99).samples) == 5 * at_level


def test_a_level_that_none_is_predicted_at(model: VisionLanguageModel) -> None:
    with pytest.raises(InputError, match=r"no sample was predicted 'sublime' \(predicted: \d"):
        lens(model, LOGITS, [batch(model)], "sublime")
    # Random weights never conclude anything.
    with pytest.raises(InputError, match="no level at all"):
        lens(model, SPOKEN, [batch(model)], "poor")


def test_tokens_that_read_alike_keep_their_numbers(model: VisionLanguageModel) -> None:
    good = model.tokenize("The quality is good")[-1]
    names = token_names(model, [good, *range(3, 40)])
    assert names[good] == "good"
    assert len(set(names.values())) == 38
