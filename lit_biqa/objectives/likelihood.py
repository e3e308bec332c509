"""Likelihood losses: target text, level words, and the order of image pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lit_biqa.objectives.chunks import LOGITS_AT_ONCE, in_autocast, tokens_at_once
from lit_biqa.types import InputError

IGNORED = -100  # label of tokens without loss: prompt, image and padding
_TINY = 1e-8  # keeps square roots differentiable at 0, as in DeQA-Score's code


def smoothed_likelihood(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    smoothing: float = 0.0,
    reduction: Literal["mean", "sum"] = "mean",
    logits_at_once: int = LOGITS_AT_ONCE,
) -> Tensor:
    """Label-smoothed negative log-likelihood over the vocabulary, for response tokens only.

    Equals ``torch.nn.CrossEntropyLoss(label_smoothing=smoothing)`` of ``hidden @ weight.T``. The
    logits are computed for a few tokens at a time and never held in full. Their gradients are
    computed in the forward pass, so that the backward pass only scales them; this saves one of the
    four matrix products that recomputation in the backward pass takes.

    Args:
        hidden: last hidden states ``[..., D]``; each predicts the label at the same position, so
            the caller shifts: ``hidden[:, :-1]`` with ``labels[:, 1:]``.
        weight: of the language model's head ``[C, D]``, whole (not sharded), without bias.
        labels: token ids ``[...]``; -100 for tokens without loss.
        smoothing: ε on [0, 1], the share of probability spread evenly over the vocabulary.
        reduction: ``mean`` over response tokens, or their ``sum`` for a caller that divides by a
            count over several ranks or batches.
        logits_at_once: most logits held at a time, tokens times vocabulary.

    Returns:
        Scalar in nats, in float32 or wider; differentiable once.

    Raises:
        InputError: if ``mean`` is asked for and the batch has no response token, or if
            ``smoothing`` lies outside [0, 1].

    Source: Building Reasonable Inference for VLMs in BIQA, equation 2.
    """
    if not 0 <= smoothing <= 1:
        raise InputError(f"smoothing={smoothing}: label smoothing must lie on [0, 1]")
    learned = labels != IGNORED
    hidden, labels = hidden[learned], labels[learned]
    if reduction == "mean" and not len(labels):
        raise InputError(
            "no token of the batch is a response token: every answer is empty or was cut off; "
            "allow longer texts or drop such samples"
        )
    hidden, weight = in_autocast(hidden), in_autocast(weight)
    tokens = tokens_at_once(weight, logits_at_once)
    with torch.autocast(hidden.device.type, enabled=False):
        total: Tensor = _SmoothedLikelihood.apply(  # type: ignore[no-untyped-call]
            hidden, weight, labels, smoothing, tokens, torch.is_grad_enabled()
        )
    return total / len(labels) if reduction == "mean" else total


class _SmoothedLikelihood(torch.autograd.Function):
    """Sum of the loss over tokens, with the gradients computed in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        smoothing: float,
        tokens: int,
        differentiate: bool,
    ) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        total = hidden.new_zeros((), dtype=torch.float64)
        to_hidden, to_weight = (differentiate and needed for needed in ctx.needs_input_grad[:2])
        by_hidden = torch.empty_like(hidden) if to_hidden else None
        by_weight = torch.zeros_like(weight, dtype=wide) if to_weight else None
        for start in range(0, len(labels), tokens):
            rows = slice(start, start + tokens)
            logits = (hidden[rows] @ weight.T).to(wide)
            total += _loss_leaving_gradient(logits, labels[rows, None], smoothing)
            gradient = logits.to(hidden.dtype)
            if by_hidden is not None:
                by_hidden[rows] = gradient @ weight
            if by_weight is not None and gradient.dtype is wide:
                by_weight.addmm_(gradient.T, hidden[rows])
            elif by_weight is not None:  # summed in float32: bfloat16 would lose small terms
                by_weight += gradient.T @ hidden[rows]
        ctx.save_for_backward(by_hidden, None if by_weight is None else by_weight.to(weight.dtype))
        return total.to(wide)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        by_input = (None if g is None else g * scale.to(g.dtype) for g in ctx.saved_tensors)
        return *by_input, None, None, None, None


def _loss_leaving_gradient(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Summed loss of ``logits [N, C]`` and ``labels [N, 1]``; the logits become its gradient."""
    normaliser = logits.logsumexp(1, keepdim=True)
    target = (1 - smoothing) * logits.gather(1, labels) + smoothing * logits.mean(1, keepdim=True)
    loss = (normaliser - target).sum(dtype=torch.float64)
    logits.sub_(normaliser).exp_().sub_(smoothing / logits.shape[1])
    logits.scatter_add_(1, labels, torch.full_like(target, smoothing - 1))
    return loss


def level_probabilities(logits: Tensor, level_ids: Sequence[int]) -> Tensor:
    """Softmax over the level words alone, as if the vocabulary held no other word.

    Args:
        logits: over the vocabulary ``[..., C]``, at the position that predicts the level word.
        level_ids: token id of each of the K levels.

    Returns:
        Probabilities ``[..., K]``, in float32 or wider.

    Source: Q-Align (Wu et al., 2024), conversion of level logits in inference.
    """
    chosen = logits[..., list(level_ids)]
    return chosen.to(torch.promote_types(chosen.dtype, torch.float32)).softmax(-1)


def level_divergence(logits: Tensor, level_ids: Sequence[int], targets: Tensor) -> Tensor:
    """Kullback-Leibler divergence from soft labels to the model's distribution of the level word.

    The softmax runs over the whole vocabulary, so that probability on other words counts as error.

    Args:
        logits: over the vocabulary ``[B, C]``, at the position that predicts the level word.
        level_ids: token id of each of the K levels.
        targets: soft labels ``[B, K]``, levels in the same order.

    Returns:
        Mean over the batch of ``sum_k t_k (log t_k - log p_k)``, in nats.

    Source: DeQA-Score (You et al., 2025), loss for soft labels.
    """
    log_p = F.log_softmax(logits, -1, dtype=torch.promote_types(logits.dtype, torch.float32))
    chosen = log_p[:, list(level_ids)]
    return (torch.xlogy(targets, targets) - targets * chosen).sum(1).mean()


def thurstone(first: Tensor, second: Tensor, variance: Tensor | float) -> Tensor:
    """Probability that the first image is preferred to the second (Thurstone, case V).

    Args:
        first: mean scores of the first images, of any shape.
        second: mean scores of the second images.
        variance: variance of the score difference, the sum of both variances; above 0.

    Returns:
        ``Phi((first - second) / sqrt(variance))``, of the broadcast shape.
    """
    preferred: Tensor = torch.special.ndtr((first - second) / torch.as_tensor(variance).sqrt())
    return preferred


def fidelity(predicted: Tensor, target: Tensor) -> Tensor:
    """Fidelity loss between two preference probabilities: 0 if they agree, at most 1.

    Args:
        predicted: probabilities of any shape.
        target: probabilities of the same shape; no gradient flows into them.

    Returns:
        Mean of ``1 - sqrt(p g) - sqrt((1 - p)(1 - g))``.

    Source: Tsai et al. (2007, FRank), as used by LIQE and DeQA-Score.
    """
    target = target.detach()
    agree = (predicted * target + _TINY).sqrt()
    differ = ((1 - predicted) * (1 - target) + _TINY).sqrt()
    return (1 - agree - differ).mean()


def pairwise_fidelity(
    scores: tuple[Tensor, Tensor], mos: tuple[Tensor, Tensor], std: tuple[Tensor, Tensor]
) -> Tensor:
    """Fidelity loss between the model's and the raters' preference within pairs of images.

    Args:
        scores: predicted scores of the first and of the second images, ``[B]`` each; each score
            has variance 1, as fixed by DeQA-Score.
        mos: their mean opinion scores, on the same scale within a pair.
        std: standard deviations of single ratings on that scale; none may be nan.

    Returns:
        Mean loss, a scalar on [0, 1].

    Source: DeQA-Score (You et al., 2025), fidelity loss between images of one data set.
    """
    predicted = thurstone(*scores, 2.0)
    people = thurstone(*mos, std[0] ** 2 + std[1] ** 2 + _TINY)
    return fidelity(predicted, people)
