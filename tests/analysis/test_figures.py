"""Figures say what they show: title, axes and how many images."""

from __future__ import annotations

from pathlib import Path

import matplotlib.figure
import pytest
import torch
from test_counting import SAMPLES

from lit_biqa.analysis import figures
from lit_biqa.analysis.accuracy import FIVE, THREE, accuracy
from lit_biqa.analysis.attention import Attention, Look
from lit_biqa.analysis.csv_rows import Who
from lit_biqa.analysis.instability import instability
from lit_biqa.analysis.logit_lens import Candidates, Lens

WHO = Who("own", "all", 0, "a.png")


def looks(image: int) -> Attention:
    shares = torch.tensor([[0.25, 0.5, 0.25]] * 2) if image else torch.tensor([[0, 0.5, 0.5]] * 2)
    return Attention.of([Look(WHO, shares, torch.tensor([image, 4, 2]), torch.rand(2, image))])


def seen() -> Lens:
    share = torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.1, 0.9]])
    sample = Candidates(WHO, [[0, 1, 2]] * 2, [[0.5, 0.3, 0.2]] * 2)
    names = {0: "poor", 1: "a $", 2: "质"}
    return Lens("poor", [1, 2], [sample] * 7, share, share, share, names)


MADE = {
    "instability": lambda: figures.instability_figure(instability(SAMPLES), 2, 4, 0.2, "run"),
    "one set": lambda: figures.instability_figure(instability(SAMPLES)[:1], 1, 4, 0.2, "run"),
    "accuracy": lambda: figures.confusion_figure(
        [accuracy(SAMPLES, FIVE)[-1], accuracy(SAMPLES, THREE)[-1]], "run"
    ),
    "lens": lambda: figures.lens_figure(seen(), True, "run"),
    "attention": lambda: figures.attention_figure(looks(3), "run"),
    "no image": lambda: figures.attention_figure(looks(0), "run"),
    "image tokens": lambda: figures.image_tokens_figure(looks(70), "run"),
}


def words(figure: matplotlib.figure.Figure) -> str:
    found = figure.findobj(matplotlib.text.Text)
    return "\n".join(text.get_text() for text in found)


@pytest.mark.parametrize("name", MADE)
def test_figures_are_labelled_and_written(name: str, tmp_path: Path) -> None:
    figure = MADE[name]()
    figures.save(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    said = words(figure)
    assert "run" in figure.get_suptitle()
    assert "n = " in said
    assert all(axes.get_ylabel() for axes in figure.axes) or name in ("accuracy", "lens")
    assert "nan" not in said.replace("± nan", "")


def test_what_the_figures_count() -> None:
    assert "33.33%" in words(MADE["accuracy"]())
    lens = words(MADE["lens"]())
    assert "n = 7 images predicted “poor”" in lens
    assert "2\n(output)" in lens
    assert "#2" in lens  # a sign that the font may lack
    assert "image (3 tokens)" in words(MADE["attention"]())
    assert "image (" not in words(MADE["no image"]())
    assert "1 to 70" in words(MADE["image tokens"]())
