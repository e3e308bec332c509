"""Long texts: cut at sentences, embedded one by one, averaged over each text."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_biqa.backbones.long_texts import embed_long, sentences


def test_texts_are_cut_where_sentences_end() -> None:
    text = " Sharp at f/2.8, i.e. good.  Is it noisy? No!\nBanding; some.\tThe end"
    assert sentences(text) == [
        "Sharp at f/2.8, i.e.",
        "good.",
        "Is it noisy?",
        "No!",
        "Banding;",
        "some.",
        "The end",
    ]
    assert sentences("no mark at all") == ["no mark at all"]
    assert sentences("  ") == [""]


def test_a_text_is_the_mean_of_its_sentences_and_of_no_other_text() -> None:
    seen: list[list[str]] = []

    def embed(parts: list[str]) -> Tensor:
        seen.append(parts)
        return torch.tensor([[float(len(part)), 1.0] for part in parts])

    embedded = embed_long(["One. Three! Five5?", "", "Only one"], embed)
    assert seen == [["One.", "Three!", "Five5?", "", "Only one"]]
    expected = [[(4 + 6 + 6) / 3, 1.0], [0.0, 1.0], [8.0, 1.0]]
    torch.testing.assert_close(embedded, torch.tensor(expected))


def test_each_sentence_gets_its_share_of_the_gradient() -> None:
    table = torch.eye(3, requires_grad=True)
    embedded = embed_long(["a. b.", "c."], lambda parts: table[: len(parts)])
    (gradient,) = torch.autograd.grad(embedded[:, 0].sum(), table)
    torch.testing.assert_close(gradient[:, 0], torch.tensor([0.5, 0.5, 1.0]))
