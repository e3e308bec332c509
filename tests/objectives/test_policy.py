"""Advantages and losses against hand-computed values, log-probabilities against torch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lit_biqa.objectives.policy import (
    BOUND,
    Aggregation,
    advantages,
    policy_loss,
    token_log_probs,
)
from lit_biqa.types import InputError


def test_advantages_by_hand() -> None:
    rewards = torch.tensor([[0.0, 1.0, 2.0], [4.0, 4.0, 1.0]], dtype=torch.float64)
    spread = [1 + 1e-4, math.sqrt(3) + 1e-4]  # unbiased: by n - 1
    expected = torch.tensor([[-1.0, 0.0, 1.0], [1.0, 1.0, -2.0]], dtype=torch.float64)
    found = advantages(rewards)
    assert torch.allclose(found, expected / torch.tensor(spread)[:, None], rtol=1e-7, atol=0)
    assert torch.equal(advantages(rewards, "none"), expected)


def test_equal_rewards_have_no_advantage_at_all() -> None:
    rewards = torch.full((2, 7), 0.1)
    assert (rewards - rewards.mean(1, keepdim=True)).any(), "the mean is rounded"
    for scale in ("group", "none"):
        assert not advantages(rewards, scale).any()


def test_rewards_in_half_precision_are_compared_in_single() -> None:
    assert advantages(torch.tensor([[0.0, 1.0]], dtype=torch.bfloat16)).dtype is torch.float32


def test_a_group_of_one_is_refused() -> None:
    with pytest.raises(InputError, match="group of 1"):
        advantages(torch.ones(3, 1))
    with pytest.raises(ValueError, match="not finite"):
        advantages(torch.tensor([[1.0, math.nan]]))


LENGTHS = (2, 1)
ADVANTAGES = torch.tensor([2.0, -1.0], dtype=torch.float64)
OLD = torch.tensor([[-1.0, -2.0], [-0.5, math.nan]], dtype=torch.float64)
RATIOS = torch.tensor([[1.5, 1.0], [0.5, 1.0]], dtype=torch.float64)
MASK = torch.tensor([[1, 1], [1, 0]])
# min(1.5 * 2, 1.2 * 2), min(1 * 2, 1 * 2) and min(0.5 * -1, 0.8 * -1)
LOSSES = torch.tensor([[-2.4, -2.0], [0.8, 0.0]], dtype=torch.float64)


def example() -> Tensor:
    return (OLD + RATIOS.log()).requires_grad_()


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("grpo", (-4.4 / 2 + 0.8) / 2), ("dr_grpo", -3.6 / 4), ("dapo", -3.6 / 3)],
)
def test_loss_by_hand(aggregation: Aggregation, expected: float) -> None:
    log_probs = example()
    loss, stats = policy_loss(log_probs, OLD, None, ADVANTAGES, MASK, aggregation=aggregation)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert stats["ratio"].item() == pytest.approx(3.0 / 3)
    assert stats["clipped"].item() == pytest.approx(2 / 3)
    assert stats["bounded"].item() == 0
    assert set(stats) == {"ratio", "clipped", "bounded"}
    (gradient,) = torch.autograd.grad(loss, log_probs)
    # Only the token that is not clipped moves, by -A * ratio, shared as its loss is.
    share = {"grpo": 1 / 4, "dr_grpo": 1 / 4, "dapo": 1 / 3}[aggregation]
    assert torch.allclose(gradient, torch.tensor([[0, -2.0 * share], [0, 0]]).double())


@pytest.mark.parametrize("aggregation", ["grpo", "dr_grpo", "dapo"])
def test_on_policy_gradient_is_that_of_reinforce(aggregation: Aggregation) -> None:
    log_probs = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(2, 2)
    loss, stats = policy_loss(log_probs, log_probs, None, ADVANTAGES, mask, aggregation=aggregation)
    (gradient,) = torch.autograd.grad(loss, log_probs)
    assert torch.allclose(gradient, -ADVANTAGES[:, None].expand(2, 2) / 4)
    assert stats["ratio"] == 1
    assert stats["clipped"] == 0


def test_the_penalty_stands_outside_the_clip() -> None:
    log_probs, beta = example(), 0.25
    reference = log_probs.detach() + torch.tensor([[0.5, -1.0], [0.25, math.inf]]).double()
    plain, _ = policy_loss(log_probs, OLD, None, ADVANTAGES, MASK)
    loss, stats = policy_loss(log_probs, OLD, reference, ADVANTAGES, MASK, beta=beta)
    kl = [math.exp(x) - x - 1 for x in (0.5, -1.0, 0.25)]
    assert (loss - plain).item() == pytest.approx(beta * ((kl[0] + kl[1]) / 2 + kl[2]) / 2)
    assert stats["kl"].item() == pytest.approx(sum(kl) / 3)
    (gradient,) = torch.autograd.grad(loss - plain, log_probs)
    slope = [beta * (1 - math.exp(x)) for x in (0.5, -1.0, 0.25)]
    expected = torch.tensor([[slope[0] / 4, slope[1] / 4], [slope[2] / 2, 0.0]])
    assert torch.allclose(gradient, expected.double())


def unbounded(
    log_probs: Tensor, old: Tensor, reference: Tensor, advantages: Tensor, mask: Tensor
) -> Tensor:
    """The loss as its sources have it, with ``exp`` of any difference."""
    ratio = (log_probs - old).exp()
    gain = torch.minimum(ratio * advantages[:, None], ratio.clamp(0.8, 1.2) * advantages[:, None])
    difference = reference - log_probs
    loss = 0.1 * (difference.exp() - difference - 1) - gain
    return (loss * mask / mask.sum(1, keepdim=True)).sum() / len(mask)


def test_the_bound_changes_nothing_below_it() -> None:
    """Differences up to 20 nats either way, and beyond it where the policy has fallen."""
    generator = torch.Generator().manual_seed(0)
    steps = (torch.rand(2, 4, 50, generator=generator, dtype=torch.float64) - 0.5) * 2 * BOUND
    log_probs = torch.full((4, 50), -50.0, dtype=torch.float64, requires_grad=True)
    old, reference = log_probs.detach() + steps[0], log_probs.detach() + steps[1]
    old[0, 0], reference[0, 0] = -20.0, -190.0  # ratio and exp vanish, and may
    earned, mask = torch.tensor([1.0, -2.0, 0.5, -0.1]).double(), torch.ones(4, 50)
    loss, stats = policy_loss(log_probs, old, reference, earned, mask, beta=0.1)
    expected = unbounded(log_probs, old, reference, earned, mask)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12) and stats["bounded"] == 0
    one, other = (torch.autograd.grad(each, log_probs)[0] for each in (loss, expected))
    assert torch.allclose(one, other, rtol=1e-12) and one.abs().max() > 1e4


@pytest.mark.parametrize("gap", [90.0, 199.0, 1e4])
def test_a_token_far_from_its_reference_or_its_past_ends_nothing(gap: float) -> None:
    """As others met it at the first step: float32's exp of 89 is infinite."""
    log_probs = torch.tensor([[-gap, -1.0], [-1.0, -1.0]], requires_grad=True)
    old = torch.tensor([[-gap, -1.0], [-gap - 1, -1.0]])
    reference = torch.full((2, 2), -1.0)
    earned, mask = torch.tensor([1.0, -1.0]), torch.ones(2, 2)
    assert not unbounded(log_probs, old, reference, earned, mask).isfinite()
    loss, stats = policy_loss(log_probs, old, reference, earned, mask, beta=0.1)
    (gradient,) = torch.autograd.grad(loss, log_probs)
    assert loss.isfinite() and gradient.isfinite().all()
    assert stats["bounded"].item() == pytest.approx(2 / 4)
    # A token at its bound is left as it is; the others are learned from.
    assert (gradient == 0).tolist() == [[False, False], [True, False]]


def test_advantages_of_tokens() -> None:
    by_token = torch.tensor([[2.0, -3.0], [-1.0, math.nan]], dtype=torch.float64)
    log_probs = example()
    loss, _ = policy_loss(log_probs, OLD, None, by_token, MASK)
    assert loss.item() == pytest.approx(((-2.4 + 3.0) / 2 + 0.8) / 2)
    (gradient,) = torch.autograd.grad(loss, log_probs)
    assert torch.allclose(gradient, torch.tensor([[0, 3.0 / 4], [0, 0]]).double())


@pytest.mark.parametrize(("aggregation", "whole"), [("grpo", 2), ("dr_grpo", 4), ("dapo", 3)])
def test_rows_one_by_one_give_the_whole(aggregation: Aggregation, whole: int) -> None:
    one, _ = policy_loss(example(), OLD, None, ADVANTAGES, MASK, aggregation=aggregation)
    rows = [
        policy_loss(
            example()[i : i + 1],
            OLD[i : i + 1],
            None,
            ADVANTAGES[i : i + 1],
            MASK[i : i + 1],
            aggregation=aggregation,
            denominator=whole,
        )[0]
        for i in range(2)
    ]
    assert sum(rows).item() == pytest.approx(one.item())  # type: ignore[union-attr]


def test_a_batch_without_tokens_has_no_loss() -> None:
    for aggregation in ("grpo", "dr_grpo", "dapo"):
        loss, _ = policy_loss(example(), OLD, OLD, ADVANTAGES, MASK * 0, aggregation=aggregation)
        assert loss == 0


def head(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(23, 8, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.randn(50, 8, generator=generator, dtype=torch.float64).to(dtype)
    labels = torch.randint(50, (23,), generator=generator)
    above = torch.randn(23, generator=generator, dtype=torch.float64)
    return hidden.requires_grad_(), weight.requires_grad_(), labels, above


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("logits_at_once", [1, 50 * 4, 2**24])
def test_token_log_probs_equal_torch(temperature: float, logits_at_once: int) -> None:
    hidden, weight, labels, above = head()
    plain = F.log_softmax(hidden @ weight.T / temperature, 1).gather(1, labels[:, None])[:, 0]
    expected = torch.autograd.grad(plain @ above, (hidden, weight))
    found = token_log_probs(hidden, weight, labels, temperature, logits_at_once)
    assert torch.allclose(found, plain, rtol=1e-12)
    gradients = torch.autograd.grad(found @ above, (hidden, weight))
    for one, other in zip(gradients, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)


def test_a_frozen_head_gets_no_gradient_and_hidden_states_do() -> None:
    hidden, weight, labels, above = head()
    frozen = token_log_probs(hidden, weight.detach(), labels, 0.7, logits_at_once=100)
    trained = token_log_probs(hidden, weight, labels, 0.7)
    (one,), (other,) = (torch.autograd.grad(f @ above, hidden) for f in (frozen, trained))
    assert torch.allclose(one, other)
    assert token_log_probs(hidden.detach(), weight.detach(), labels).requires_grad is False


def test_half_precision_sums_in_single() -> None:
    hidden, weight, labels, above = head(torch.bfloat16)
    found = token_log_probs(hidden, weight, labels, logits_at_once=1)
    exact = F.log_softmax(hidden.double() @ weight.double().T, 1).gather(1, labels[:, None])[:, 0]
    assert found.dtype is torch.float32
    assert torch.allclose(found.double(), exact, atol=0.05)
    gradients = torch.autograd.grad(found @ above.float(), (hidden, weight))
    for one, other in zip(
        gradients, torch.autograd.grad(exact @ above, (hidden, weight)), strict=True
    ):
        assert one.dtype is torch.bfloat16
        assert torch.allclose(one, other, atol=0.02 * other.abs().max().item())


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most elements of any tensor made while it is entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        made = out if isinstance(out, (tuple, list)) else [out]
        self.elements = max([self.elements, *(t.numel() for t in made if isinstance(t, Tensor))])
        return out


def test_logits_never_stand_as_a_whole() -> None:
    hidden, weight, labels, above = head()
    with Largest() as seen:
        found = token_log_probs(hidden, weight, labels, logits_at_once=150)
        torch.autograd.grad(found @ above, (hidden, weight))
    assert seen.elements == weight.numel()  # 400; three rows of logits are 150, all 1,150


def test_no_tokens_no_log_probs() -> None:
    hidden, weight, labels, _ = head()
    found = token_log_probs(hidden[:0], weight, labels[:0])
    assert found.shape == (0,)
    assert not torch.autograd.grad(found.sum(), weight)[0].any()


def test_temperature_must_be_above_zero() -> None:
    hidden, weight, labels, _ = head()
    with pytest.raises(InputError, match="temperature=0"):
        token_log_probs(hidden, weight, labels, 0.0)
