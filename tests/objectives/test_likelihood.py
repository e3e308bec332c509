"""Likelihoods against torch, scipy and values computed by hand; memory by what torch makes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.special import rel_entr
from scipy.stats import norm
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lit_biqa.objectives.likelihood import (
    fidelity,
    level_divergence,
    level_probabilities,
    pairwise_fidelity,
    smoothed_likelihood,
    thurstone,
)
from lit_biqa.types import InputError

TOKENS, WIDTH, WORDS = 37, 8, 50


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states ``[1, 37, 8]``, head ``[50, 8]`` and labels, every third one ignored."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, TOKENS, WIDTH, generator=generator, dtype=dtype)
    weight = torch.randn(WORDS, WIDTH, generator=generator, dtype=dtype)
    labels = torch.randint(WORDS, (1, TOKENS), generator=generator)
    labels[:, ::3] = -100
    return hidden.requires_grad_(), weight.requires_grad_(), labels


def plain(hidden: Tensor, weight: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    logits = (hidden @ weight.T).flatten(0, 1)
    return F.cross_entropy(logits, labels.flatten(), label_smoothing=smoothing)


def test_equation_2_by_hand() -> None:
    # Two words with logits 0 and ln 3: p = 1/4, 3/4. The first is true.
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[0.0], [math.log(3)]])
    expected = 0.8 * math.log(4) + 0.2 * (math.log(4) + math.log(4 / 3)) / 2
    loss = smoothed_likelihood(hidden, weight, torch.tensor([0]), 0.2)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("logits_at_once", [1, 5 * WORDS, 2**24])
def test_equals_torch_in_value_and_gradient(smoothing: float, logits_at_once: int) -> None:
    hidden, weight, labels = inputs()
    ours = smoothed_likelihood(hidden, weight, labels, smoothing, logits_at_once=logits_at_once)
    theirs = plain(hidden, weight, labels, smoothing)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    # A factor from outside, as of a weighted sum of losses, must reach the gradients.
    got = torch.autograd.grad(3 * ours, (hidden, weight))
    expected = torch.autograd.grad(3 * theirs, (hidden, weight))
    for ours_, theirs_ in zip(got, expected, strict=True):
        assert torch.allclose(ours_, theirs_, rtol=0, atol=1e-6)


def test_gradients_are_those_of_the_function() -> None:
    hidden, weight, labels = inputs(torch.float64)

    def loss(hidden: Tensor, weight: Tensor) -> Tensor:
        return smoothed_likelihood(hidden, weight, labels, 0.1, logits_at_once=7 * WORDS)

    assert torch.autograd.gradcheck(loss, (hidden, weight))


def test_sums_over_parts_divided_by_their_count_make_the_mean() -> None:
    hidden, weight, labels = inputs()
    parts = [
        smoothed_likelihood(h, weight, y, 0.1, "sum")
        for h, y in zip(torch.split(hidden, 10, 1), torch.split(labels, 10, 1), strict=True)
    ]
    total = torch.stack(parts).sum() / (labels != -100).sum()
    expected = smoothed_likelihood(hidden, weight, labels, 0.1)
    assert total.item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_frozen_head_gets_no_gradient_and_no_grad_mode_makes_none() -> None:
    hidden, weight, labels = inputs()
    expected = torch.autograd.grad(plain(hidden, weight, labels, 0.1), hidden)[0]
    loss = smoothed_likelihood(hidden, weight.detach(), labels, 0.1)
    (got,) = torch.autograd.grad(loss, hidden)
    assert torch.allclose(got, expected, atol=1e-6)
    with torch.no_grad(), Largest() as seen:
        smoothed_likelihood(hidden, weight, labels, 0.1, logits_at_once=WORDS)
    # Nothing as large as the gradient of the head is made, let alone kept.
    assert seen.elements < weight.numel()


def test_autocast_computes_in_its_dtype_and_sums_in_float32() -> None:
    hidden, weight, labels = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        loss = smoothed_likelihood(hidden, weight, labels, 0.1, logits_at_once=5 * WORDS)
    rounded = plain(hidden.bfloat16(), weight.bfloat16(), labels, 0.1)
    assert loss.dtype is torch.float32
    assert loss.item() == pytest.approx(rounded.item(), rel=1e-2)
    (gradient,) = torch.autograd.grad(loss, weight)
    (exact,) = torch.autograd.grad(plain(hidden, weight, labels, 0.1), weight)
    assert gradient.dtype is torch.float32
    assert (gradient - exact).norm() / exact.norm() < 2e-2


def test_without_response_tokens_the_sum_is_zero_and_the_mean_an_error() -> None:
    hidden, weight, labels = inputs()
    nothing = torch.full_like(labels, -100)
    total = smoothed_likelihood(hidden, weight, nothing, reduction="sum")
    gradients = torch.autograd.grad(total, (hidden, weight))
    assert total.item() == 0
    assert all(gradient.abs().sum() == 0 for gradient in gradients)
    with pytest.raises(InputError, match="no token of the batch is a response token"):
        smoothed_likelihood(hidden, weight, nothing)


def test_a_smoothing_beyond_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"smoothing=1.5"):
        smoothed_likelihood(*inputs(), smoothing=1.5)


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers how many elements the largest tensor has that takes new memory."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and not func.is_view:
            self.elements = max(self.elements, made.numel())
        return made


def test_no_tensor_of_all_tokens_and_words_is_ever_made() -> None:
    tokens, words, at_once = 64, 4096, 4 * 4096
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, tokens, 4, generator=generator, requires_grad=True)
    weight = torch.randn(words, 4, generator=generator, requires_grad=True)
    labels = torch.randint(words, (1, tokens), generator=generator)
    with Largest() as ours:
        loss = smoothed_likelihood(hidden, weight, labels, 0.1, logits_at_once=at_once)
        torch.autograd.grad(loss, (hidden, weight))
    with Largest() as theirs:
        torch.autograd.grad(plain(hidden, weight, labels, 0.1), (hidden, weight))
    assert theirs.elements == tokens * words
    assert ours.elements == at_once


def test_level_probabilities_ignore_every_other_word() -> None:
    logits = torch.tensor([[9.0, 0.0, math.log(3.0), 50.0]])
    assert torch.allclose(level_probabilities(logits, [1, 2]), torch.tensor([[0.25, 0.75]]))
    assert torch.allclose(level_probabilities(logits, [2, 1]), torch.tensor([[0.75, 0.25]]))
    assert level_probabilities(logits.bfloat16(), [1, 2]).dtype is torch.float32


def test_level_divergence_equals_scipy_and_counts_words_that_are_no_level() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 9, generator=generator, dtype=torch.float64)
    targets = torch.tensor([[0.0, 0.3, 0.7], [1.0, 0.0, 0.0], [0.2, 0.5, 0.3]], dtype=torch.float64)
    levels = [7, 0, 4]
    p = logits.softmax(1)[:, levels].numpy()
    expected = rel_entr(targets.numpy(), p).sum(1).mean()
    assert level_divergence(logits, levels, targets).item() == pytest.approx(expected, abs=1e-12)
    # Two words, all weight of the label on one: the loss is its surprise.
    loss = level_divergence(torch.tensor([[0.0, math.log(3)]]), [0], torch.tensor([[1.0]]))
    assert loss.item() == pytest.approx(math.log(4), abs=1e-6)


def test_level_divergence_has_a_gradient_and_stays_finite_far_from_the_label() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[0.0, 0.4, 0.6], [0.1, 0.9, 0.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: level_divergence(z, [1, 2, 5], targets), (logits,))
    far = torch.tensor([[0.0, 1000.0]])
    # Plain softmax gives 0 here, and 0 times its logarithm no number.
    assert level_divergence(far, [0, 1], torch.tensor([[0.0, 1.0]])).item() == 0
    assert level_divergence(far, [0, 1], torch.tensor([[1.0, 0.0]])).item() == 1000


def test_thurstone_equals_scipy() -> None:
    first, second = torch.tensor([3.0, 2.0, 4.5]), torch.tensor([3.0, 3.0, 1.0])
    variance = torch.tensor([1.0, 4.0, 0.25])
    expected = norm.cdf((first - second) / variance.sqrt())
    assert thurstone(first, second, variance).tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert thurstone(first, second, 4.0)[1].item() == pytest.approx(norm.cdf(-0.5), abs=1e-6)


def test_fidelity_by_hand() -> None:
    half, one, zero = torch.tensor([0.5]), torch.tensor([1.0]), torch.tensor([0.0])
    assert fidelity(one, one).item() == pytest.approx(0, abs=2e-4)
    assert fidelity(zero, one).item() == pytest.approx(1, abs=3e-4)
    assert fidelity(half, one).item() == pytest.approx(1 - math.sqrt(0.5), abs=2e-4)
    both = fidelity(torch.cat([half, zero]), torch.cat([one, one]))
    assert both.item() == pytest.approx((2 - math.sqrt(0.5)) / 2, abs=3e-4)


def test_pairwise_fidelity_by_hand() -> None:
    scores = torch.tensor([3.5]), torch.tensor([3.0])
    mos, std = (
        (torch.tensor([4.0]), torch.tensor([3.0])),
        (torch.tensor([0.6]), torch.tensor([0.8])),
    )
    p, g = norm.cdf(0.5 / math.sqrt(2)), norm.cdf(1.0)
    expected = 1 - math.sqrt(p * g) - math.sqrt((1 - p) * (1 - g))
    assert pairwise_fidelity(scores, mos, std).item() == pytest.approx(expected, abs=1e-6)


def test_pairwise_fidelity_is_differentiable_even_where_the_order_is_certain() -> None:
    first = torch.tensor([3.5, 1.0, 50.0], dtype=torch.float64, requires_grad=True)
    second = torch.tensor([3.0, 4.0, 1.0], dtype=torch.float64, requires_grad=True)
    mos = torch.tensor([4.0, 2.0, 4.0]), torch.tensor([3.0, 2.5, 4.0])
    std = torch.tensor([0.6, 0.0, 0.0]), torch.tensor([0.8, 0.0, 0.0])

    def loss(first: Tensor, second: Tensor) -> Tensor:
        return pairwise_fidelity((first, second), mos, std)

    assert torch.autograd.gradcheck(loss, (first, second))
    (gradient,) = torch.autograd.grad(loss(first, second), first)
    # Both first pairs are ordered as people order them, but too weakly; the third is at its bound.
    assert gradient[0] < 0 < gradient[1]
    assert gradient[2].item() == pytest.approx(0, abs=1e-12)
