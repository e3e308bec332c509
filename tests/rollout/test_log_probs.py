"""Groups behind a shared prompt have the log-probabilities and gradients of plain rows."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from talkers import FAMILIES, Family, chats_for, plain_logits, talker
from torch import Tensor

from lit_biqa.backbones.tuning import Tuning
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.rollout.log_probs import accumulated_loss, completion_log_probs

TUNINGS = {
    "full": Tuning(),
    "lora": Tuning(how="lora", rank=4, alpha=4),
    "language": Tuning(parts=("language",)),
    "checkpointing": Tuning(checkpointing=True),
}
TEMPERATURE = 0.7


class Said(NamedTuple):
    """Completions of three chats, and by how much each token counts in a loss."""

    ids: Tensor
    mask: Tensor
    weight: Tensor


@pytest.fixture
def said() -> Said:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 250, (3, 4, 7), generator=generator)
    lengths = torch.tensor([[7, 1, 4, 2], [3, 3, 5, 6], [1, 1, 2, 1]])
    mask = torch.arange(7) < lengths[..., None]
    return Said(ids.masked_fill(~mask, -1), mask, torch.randn(mask.shape, generator=generator))


def plain(model: VisionLanguageModel, said: Said) -> Tensor:
    rows = []
    for chat, ids in zip(chats_for(model), said.ids.clamp_min(0), strict=True):
        for row in ids:
            logits = plain_logits(model, chat, row) / TEMPERATURE
            rows.append(logits.log_softmax(1).gather(1, row[:, None])[:, 0])
    return torch.stack(rows).view(said.mask.shape) * said.mask


def gradients(model: VisionLanguageModel) -> dict[str, Tensor]:
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Relative to each gradient, or to the largest of all where rounding is all there is."""
    assert found.keys() == expected.keys()
    largest = max(gradient.norm() for gradient in expected.values())
    for name, gradient in expected.items():
        allowed = 1e-5 * max(gradient.norm(), 1e-2 * largest)
        assert (found[name] - gradient).norm() <= allowed, name


@pytest.mark.parametrize("tuning", TUNINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_values_and_gradients_are_the_plain_ones(family: Family, tuning: str, said: Said) -> None:
    model = talker(family, TUNINGS[tuning])
    expected = plain(model, said)
    torch.autograd.backward((expected * said.weight).sum())
    wanted = gradients(model)
    assert len(wanted) == sum(p.requires_grad for p in model.parameters())

    inputs = model.encode(chats_for(model))
    log_probs = completion_log_probs(model, inputs, said.ids, said.mask, TEMPERATURE)
    assert torch.allclose(log_probs, expected, rtol=0, atol=1e-5)
    torch.autograd.backward((log_probs * said.weight).sum())
    assert_close(gradients(model), wanted)

    seen = []

    def loss_of(log_probs: Tensor, rows: slice) -> Tensor:
        seen.append(rows)
        return (log_probs * said.weight.flatten(0, 1)[rows]).sum()

    loss = accumulated_loss(
        model, inputs, said.ids, said.mask, loss_of, TEMPERATURE, rows_at_once=5
    )
    assert seen == [slice(0, 5), slice(5, 10), slice(10, 12)]
    assert not gradients(model)
    assert loss.item() == pytest.approx((expected * said.weight).sum().item(), abs=1e-4)
    torch.autograd.backward(loss)
    assert_close(gradients(model), wanted)


def test_a_loss_is_scaled_and_added_to_what_is_there(said: Said) -> None:
    model = talker(FAMILIES[1])
    inputs = model.encode(chats_for(model))
    args = (model, inputs, said.ids, said.mask)
    torch.autograd.backward(completion_log_probs(*args).sum())
    wanted = {name: 3 * gradient for name, gradient in gradients(model).items()}
    for scale in (1.0, 2.0):
        torch.autograd.backward(
            scale * accumulated_loss(*args, lambda log_probs, rows: log_probs.sum())
        )
    assert_close(gradients(model), wanted)


@torch.no_grad()
def test_portions_change_nothing(said: Said) -> None:
    model = talker(FAMILIES[0])
    args = (model, model.encode(chats_for(model)), said.ids, said.mask)
    whole = completion_log_probs(*args)
    assert not whole.masked_select(~said.mask).any()
    for rows in (1, 5, 100):
        portioned = completion_log_probs(*args, rows_at_once=rows)
        assert torch.allclose(portioned, whole, rtol=0, atol=1e-5)
