"""The causal check: what each change takes away, and its effects by hand."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rated import FAMILIES, given, loaded
from scipy.stats import pearsonr
from scripted import script
from torch import Tensor

from lit_biqa.analysis.csv_rows import Who
from lit_biqa.analysis.score_causes import (
    CausalCheck,
    Caused,
    changes,
    effects,
    without_text,
    write_causes,
)
from lit_biqa.analysis.score_figures import causes_figure
from lit_biqa.analysis.score_states import rated_answers
from lit_biqa.readouts.expected import digits
from lit_biqa.readouts.ratings import Rated
from lit_biqa.readouts.words import next_logits
from lit_biqa.types import InputError

READOUT = Rated(at_once=4)


def test_changes_take_away_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded("timm")
    script(monkeypatch)
    one, donor, _ = rated_answers(model, READOUT, "image", given(model))
    whole, blind, bare, seen, told = changes(one, donor)
    assert whole.opening.endswith('<answer>\n{"rating": ')
    assert blind.pixels is None
    assert "<|image|>" not in blind.messages[-1].text
    assert blind.opening == seen.opening == whole.opening
    tags = '<caption>\n</caption>\n<think>\n</think>\n<answer>\n{"rating": '
    assert (bare.opening, bare.pixels is whole.pixels) == (tags, True)
    assert seen.pixels is donor.chat.pixels
    assert (told.opening, told.pixels is whole.pixels) == (donor.opening, True)


def test_an_answer_without_texts_stays_as_it_is() -> None:
    assert without_text('<answer>\n{"rating": ') == '<answer>\n{"rating": '
    assert without_text("") == ""


def test_a_boxed_rating_stays_without_its_texts() -> None:
    opening = "<think>\nIt is sharp.\n</think>\nSo it is \\boxed{"
    assert without_text(opening) == "<think>\n</think>\n\\boxed{"


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_each_answer_borrows_from_the_one_before(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(family)
    script(monkeypatch)
    answers = rated_answers(model, READOUT, "image", given(model))
    check = CausalCheck(model, 4)
    for start in (0, 2):  # the third borrows across a batch
        check.add(given(model), answers[start : start + 2])
    second, third = check.results
    assert (second.who.name, third.who.name) == ("b.png", "c.png")
    assert (third.mos, third.donor) == (5.0, second.whole)
    # The expected rating of the whole chat by hand, from the two digits' probabilities.
    whole = changes(answers[2], answers[1])[0]
    tokens = digits(model)
    logits = model(next_logits, model.encode([whole]))
    first = logits[0, tokens[1:6]].double().softmax(0)
    mean = 5 * float(first[4])
    for digit in range(1, 5):
        further = replace(whole, opening=f"{whole.opening}{digit}.")
        second_digit = model(next_logits, model.encode([further]))[0, tokens].double().softmax(0)
        tenths = float((second_digit * torch.arange(10) / 10).sum())
        mean += float(first[digit - 1]) * (digit + tenths)
    assert third.whole == pytest.approx(mean, abs=1e-4)


def test_an_image_is_seen_once_for_all_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded("timm")
    script(monkeypatch)
    answers = rated_answers(model, READOUT, "image", given(model))
    counts: list[int] = []
    see = model.image_features

    def counted(pixels: Sequence[Tensor]) -> Tensor:
        counts.append(len(pixels))
        features: Tensor = see(pixels)
        assert not features.requires_grad
        return features

    monkeypatch.setattr(model, "image_features", counted)
    CausalCheck(model, 4).add(given(model), answers)
    # The first answer lends: its image is seen for its own rating, then with those that borrow it.
    assert sum(counts) == 1 + 3


def test_effects_by_hand(tmp_path: Path) -> None:
    whole, donor, mos = [2.0, 3.0, 4.0, 2.5], [4.0, 2.0, 3.0, 4.0], [1.0, 3.0, 5.0, 2.0]
    other_text = [3.5, 2.2, 3.1, 3.9]
    rows = [(2.0, w + 1, d, t) for w, d, t in zip(whole, donor, other_text, strict=True)]
    results = [
        Caused(Who("own", "all", i, f"{i}.png"), mos[i], whole[i], donor[i], row)
        for i, row in enumerate(rows)
    ]
    none, image, text, other, told = effects(results)
    assert (none.moved, none.own) == pytest.approx((0.0, 1.0))
    assert none.mos == pytest.approx(pearsonr(whole, mos).statistic)
    assert math.isnan(image.mos)  # a constant
    assert (text.moved, text.low, text.high) == pytest.approx((1.0, 1.0, 1.0))
    assert (other.donor, other.own) == pytest.approx((1.0, pearsonr(whole, donor).statistic))
    assert told.donor == pytest.approx(pearsonr(other_text, donor).statistic)
    write_causes(tmp_path, results)
    with (tmp_path / "score_causes_summary.csv").open(newline="") as file:
        names = [row["change"] for row in csv.DictReader(file)]
    assert names[1:3] == ["no image", "no text"]
    figure = causes_figure([none, image, text, other, told], 4, "run")
    assert "without its text by 1.00" in figure.get_suptitle()


def test_one_answer_has_nobody_to_borrow_from() -> None:
    with pytest.raises(InputError, match="fewer than two answers"):
        effects([])
