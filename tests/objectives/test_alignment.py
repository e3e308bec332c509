import math

import pytest
import torch
import torch.nn.functional as F

from lit_biqa.objectives.alignment import contrastive_loss


def test_hand_computed() -> None:
    # Two pairs, orthogonal and matching: logits are scale * identity.
    images = torch.tensor([[2.0, 0.0], [0.0, 0.5]])
    texts = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    loss = contrastive_loss(images, texts, torch.tensor([2.0]), torch.tensor([0, 1]))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2.0)), abs=1e-6)


def test_equals_open_clip_where_no_image_repeats() -> None:
    from open_clip import ClipLoss

    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(2, 6, 8, generator=generator)
    images.requires_grad_()
    scale = torch.tensor([14.0])
    ours = contrastive_loss(images, texts, scale, torch.arange(6))
    (gradient,) = torch.autograd.grad(ours, images)
    theirs = ClipLoss()(F.normalize(images, dim=1), F.normalize(texts, dim=1), scale)
    (expected,) = torch.autograd.grad(theirs, images)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    assert torch.allclose(gradient, expected, atol=1e-7)


def test_another_text_of_the_same_image_is_no_negative() -> None:
    generator = torch.Generator().manual_seed(1)
    images, texts = torch.randn(2, 4, 5, generator=generator)
    ids = torch.tensor([7, 3, 7, 2])
    logits = 3 * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    expected = 0.0
    for matrix in (logits, logits.T):
        for row in range(4):
            kept = [c for c in range(4) if c == row or ids[c] != ids[row]]
            expected += -(matrix[row, row] - matrix[row, kept].logsumexp(0)).item() / 8
    loss = contrastive_loss(images, texts, torch.tensor([3.0]), ids)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_a_batch_of_one_image_has_nothing_to_learn_and_no_nan() -> None:
    images = torch.randn(3, 4, generator=torch.Generator().manual_seed(2)).requires_grad_()
    loss = contrastive_loss(images, torch.ones(3, 4), torch.tensor([5.0]), torch.zeros(3))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0
    assert images.grad is not None
    assert torch.equal(images.grad, torch.zeros(3, 4))
