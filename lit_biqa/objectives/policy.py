"""Group-relative policy optimisation: rewards to advantages, log-probabilities to a loss.

Source: DeepSeekMath (Shao et al., 2024), as implemented in the code of Q-Insight, VisualQuality-R1
and *Understanding Pure Textual Reasoning*. Equation 6 of the last has the KL term inside the
minimum; its code adds the term outside, and so does this module.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lit_biqa.objectives.chunks import LOGITS_AT_ONCE, in_autocast, tokens_at_once
from lit_biqa.types import InputError

Scale = Literal["group", "none"]
Aggregation = Literal["grpo", "dr_grpo", "dapo"]

_LEAST_SPREAD = 1e-4

BOUND = 20.0
"""Most nats by which one log-probability may exceed another before ``exp``.

Between policies one clipped step apart, differences stay below 1. At 20 nats a probability has
grown 4.9e8 times; at 89 nats ``exp`` overflows float32, and one such token would end a run. A token
beyond the bound contributes the value at the bound and no gradient.
"""


def advantages(rewards: Tensor, scale: Scale = "group") -> Tensor:
    """Advantage of each completion: its reward minus the mean reward of its group.

    Args:
        rewards: ``[P, G]``, the G completions of each of P prompts.
        scale: ``group`` divides by the group's unbiased standard deviation + 1e-4; ``none`` does
            not divide, as in Dr. GRPO (Liu et al., 2025).

    Returns:
        ``[P, G]`` in float32 or wider; exactly zero in a group whose rewards are all equal.

    Raises:
        InputError: if G is 1: the only completion has nothing to be compared with.
        ValueError: if a reward is not finite.
    """
    if rewards.shape[1] < 2:
        raise InputError(
            f"a group of {rewards.shape[1]} completion has no advantages: sample 2 or more for "
            "each prompt"
        )
    if not rewards.isfinite().all():
        raise ValueError("a reward is not finite")
    rewards = rewards.to(torch.promote_types(rewards.dtype, torch.float32))
    centred = rewards - rewards.mean(1, keepdim=True)
    # Otherwise the rounding error of the mean, divided by 1e-4, would become an advantage.
    centred = centred.masked_fill((rewards == rewards[:, :1]).all(1, keepdim=True), 0.0)
    if scale == "none":
        return centred
    return centred / (rewards.std(1, keepdim=True) + _LEAST_SPREAD)


def policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    reference_log_probs: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    clip: float = 0.2,
    beta: float = 0.001,
    aggregation: Aggregation = "grpo",
    denominator: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Clipped policy-gradient loss with a KL penalty against a reference model.

    Args:
        log_probs: log-probabilities of the tokens under the policy ``[N, T]``, with gradient.
        old_log_probs: under the policy that sampled them ``[N, T]``, without gradient. In the
            first update after a rollout these are ``log_probs`` themselves.
        reference_log_probs: under the reference model ``[N, T]``; ``None`` for no penalty.
        advantages: of each completion ``[N]``, or of each token ``[N, T]``.
        mask: ``[N, T]``, true for tokens that count, up to and including the end token.
        clip: ε; the ratio is clipped to 1 ± ε.
        beta: weight of the penalty.
        aggregation: ``grpo``, mean over the tokens of each completion, then over completions;
            ``dr_grpo``, sum over tokens divided by a constant (Liu et al., 2025); ``dapo``, mean
            over all tokens (Yu et al., 2025).
        denominator: divisor of the sum if these rows are part of a larger batch: that batch's
            number of completions (``grpo``), of tokens (``dapo``), or of completions times the
            token budget (``dr_grpo``). ``None`` takes N, the number of tokens here, or N T.

    Returns:
        The loss, a scalar, and detached means over the tokens that count: ``ratio``; ``clipped``,
        the share of tokens whose gradient clipping stops; ``bounded``, the share whose gradient
        `BOUND` stops; and ``kl``, if there is a reference.
    """
    mask = mask.bool()
    if advantages.ndim == 1:
        advantages = advantages[:, None]
    # Tokens that do not count may hold any value, and infinity times zero is nan.
    increase = (log_probs - old_log_probs.detach()).masked_fill(~mask, 0.0)
    ratio, bounded = increase.clamp(max=BOUND).exp(), increase > BOUND
    gain = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    loss, stats = -gain, {"ratio": ratio, "clipped": _stopped(ratio, advantages, clip)}
    if reference_log_probs is not None:
        decrease = (reference_log_probs.detach() - log_probs).masked_fill(~mask, 0.0)
        kl, bounded = _divergence(decrease), bounded | (decrease > BOUND)
        loss, stats["kl"] = loss + beta * kl, kl
    stats["bounded"] = bounded.to(ratio.dtype)
    tokens = mask.sum().clamp(min=1)
    means = {name: (v.detach() * mask).sum() / tokens for name, v in stats.items()}
    return _aggregated(loss.masked_fill(~mask, 0.0), mask, aggregation, denominator), means


def _aggregated(
    loss: Tensor, mask: Tensor, aggregation: Aggregation, denominator: float | None
) -> Tensor:
    if aggregation == "grpo":
        loss = loss / mask.sum(1, keepdim=True).clamp(min=1)
    if denominator is None:
        tokens = int(mask.sum().clamp(min=1))
        counts = {"grpo": len(mask), "dr_grpo": mask.numel(), "dapo": tokens}
        denominator = max(1, counts[aggregation])
    return loss.sum() / denominator


def _stopped(ratio: Tensor, advantages: Tensor, clip: float) -> Tensor:
    above, below = ratio > 1 + clip, ratio < 1 - clip
    return ((above & (advantages > 0)) | (below & (advantages < 0))).to(ratio.dtype)


def _divergence(difference: Tensor) -> Tensor:
    """Schulman's k3: an unbiased estimate of KL(policy || reference), never negative.

    Args:
        difference: log-probability under the reference minus that under the policy.
    """
    difference = difference.clamp(max=BOUND)
    return difference.exp() - difference - 1


def token_log_probs(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    temperature: float = 1.0,
    logits_at_once: int = LOGITS_AT_ONCE,
) -> Tensor:
    """Log-probability of each token under the softmax over the vocabulary.

    Equals ``log_softmax(hidden @ weight.T / temperature)`` at the labels. The logits are computed
    for a few tokens at a time and never held in full; the backward pass computes them again if the
    head is trained.

    Args:
        hidden: last hidden states ``[N, D]``, each at the position that predicts its label.
        weight: of the language model's head ``[C, D]``, whole (not sharded), without bias.
        labels: token ids ``[N]``.
        temperature: divisor of the logits: the temperature of sampling, or 1.
        logits_at_once: most logits held at a time, tokens times vocabulary.

    Returns:
        ``[N]`` in nats, in float32 or wider; differentiable once.

    Raises:
        InputError: if the temperature is not above 0.
    """
    if not temperature > 0:
        raise InputError(f"temperature={temperature}: it must be above 0")
    hidden, weight = in_autocast(hidden), in_autocast(weight)
    tokens = tokens_at_once(weight, logits_at_once)
    with torch.autocast(hidden.device.type, enabled=False):
        log_probs: Tensor = _TokenLogProbs.apply(  # type: ignore[no-untyped-call]
            hidden, weight, labels, temperature, tokens
        )
    return log_probs


class _TokenLogProbs(torch.autograd.Function):
    """With a frozen head, the gradients are computed in the forward pass, but for their scale."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, temperature: float, tokens: int
    ) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        log_probs = hidden.new_empty(len(labels), dtype=wide)
        normaliser = torch.empty_like(log_probs)
        to_hidden, to_weight = ctx.needs_input_grad[:2]
        by_hidden = torch.empty_like(hidden) if to_hidden and not to_weight else None
        for start in range(0, len(labels), tokens):
            rows = slice(start, start + tokens)
            logits = (hidden[rows] @ weight.T).to(wide).div_(temperature)
            normaliser[rows] = logits.logsumexp(1)
            log_probs[rows] = logits.gather(1, labels[rows, None])[:, 0] - normaliser[rows]
            if by_hidden is not None:
                share = _share(logits, normaliser[rows], labels[rows], temperature)
                by_hidden[rows] = share.to(hidden.dtype) @ weight
        ctx.save_for_backward(hidden, weight, labels, normaliser, by_hidden)
        ctx.temperature, ctx.tokens = temperature, tokens
        return log_probs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, labels, normaliser, by_hidden = ctx.saved_tensors
        above = above[:, None]
        to_hidden, to_weight = ctx.needs_input_grad[:2]
        if not to_weight:
            scaled = None if by_hidden is None else (by_hidden * above).to(hidden.dtype)
            return scaled, None, None, None, None
        by_hidden = torch.empty_like(hidden) if to_hidden else None
        by_weight = torch.zeros_like(weight, dtype=normaliser.dtype)
        for start in range(0, len(labels), ctx.tokens):
            rows = slice(start, start + ctx.tokens)
            logits = (hidden[rows] @ weight.T).to(normaliser.dtype).div_(ctx.temperature)
            share = _share(logits, normaliser[rows], labels[rows], ctx.temperature)
            gradient = share.mul_(above[rows]).to(hidden.dtype)
            if by_hidden is not None:
                by_hidden[rows] = gradient @ weight
            # Summed in float32: bfloat16 would lose small terms.
            by_weight += gradient.T @ hidden[rows]
        return by_hidden, by_weight.to(weight.dtype), None, None, None


def _share(logits: Tensor, normaliser: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Gradient of each log-probability by the logits before the temperature, in their place."""
    share = logits.sub_(normaliser[:, None]).exp_().neg_()
    one = torch.ones_like(normaliser)[:, None]
    return share.scatter_add_(1, labels[:, None], one).div_(temperature)
