"""Log-probabilities of completions, with each prompt computed once for all its completions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lit_biqa.backbones.inputs import Inputs
from lit_biqa.backbones.shared_prefix import Continued
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.objectives.policy import token_log_probs
from lit_biqa.rollout.prompts import Read, go_on, read

LossOf = Callable[[Tensor, slice], Tensor]


def completion_log_probs(
    model: VisionLanguageModel,
    inputs: Inputs,
    completions: Tensor,
    mask: Tensor,
    temperature: float = 1.0,
    rows_at_once: int | None = None,
) -> Tensor:
    """Log-probabilities of the tokens of completions, differentiable.

    Equals running each completion after its own copy of its prompt, but prompt and image are
    computed once per group, forward and backward.

    Args:
        model: model with its weights.
        inputs: of P prompts, padded on the left, from ``model.encode`` without answers.
        completions: token ids ``[P, G, T]``, padded on the right with any tokens.
        mask: ``[P, G, T]``, true for tokens that count.
        temperature: divisor of the logits.
        rows_at_once: completions per portion, which bounds memory without gradients; ``None`` for
            all. Ranks that share the weights run the same number of portions.

    Returns:
        ``[P, G, T]`` in nats, in float32 or wider; 0 where the mask is false.
    """
    rows: Tensor = model(_log_probs, inputs, completions, mask, temperature, rows_at_once)
    return rows.view(mask.shape)


def accumulated_loss(
    model: VisionLanguageModel,
    inputs: Inputs,
    completions: Tensor,
    mask: Tensor,
    loss_of: LossOf,
    temperature: float = 1.0,
    rows_at_once: int = 2,
) -> Tensor:
    """Loss on `completion_log_probs`, without holding the activations of all completions at once.

    The prompts run once. Completions run a few at a time, each portion forward and at once
    backward, down to the prompts' keys and values; the backward pass of the returned loss then goes
    once through the prompts. Nothing is computed twice. The caller treats the loss like any other:
    it can be scaled, accumulated, and reduced by DDP and FSDP2.

    The price is a second set of gradients while gradients of earlier batches are accumulated. Under
    FSDP2, weights stay whole for all portions, and gradients are reduced once per portion instead
    of once: few large portions are faster there.

    Args:
        model: model with its weights.
        inputs: see `completion_log_probs`.
        completions: token ids ``[P, G, T]``, likewise.
        mask: ``[P, G, T]``, likewise.
        loss_of: function of the log-probabilities ``[R, T]`` of a portion and its slice of the
            P * G completions, prompt by prompt; returns the portion's loss, a scalar.
        temperature: divisor of the logits.
        rows_at_once: completions per portion.

    Returns:
        The summed loss, a scalar; differentiable once.
    """
    # Bound to the work, because FSDP2 puts a node of autograd before tensors that it is given.
    work = partial(_accumulate, parameters=model.trained())
    with model.keep_whole():
        loss: Tensor = model(work, inputs, completions, mask, loss_of, temperature, rows_at_once)
    return loss


def _log_probs(
    model: VisionLanguageModel,
    inputs: Inputs,
    completions: Tensor,
    mask: Tensor,
    temperature: float,
    rows_at_once: int | None,
) -> Tensor:
    prompts = read(model, inputs)
    portions = _portions(mask, rows_at_once)
    ids = completions.flatten(0, 1)
    parts = [_of_rows(model, prompts, ids, mask, rows, temperature) for rows in portions]
    return torch.cat(parts)


def _portions(mask: Tensor, rows_at_once: int | None) -> Iterator[slice]:
    count = mask.shape[0] * mask.shape[1]
    size = rows_at_once or count
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _of_rows(
    model: VisionLanguageModel,
    prompts: Read,
    completions: Tensor,
    mask: Tensor,
    rows: slice,
    temperature: float,
) -> Tensor:
    """Log-probabilities ``[R, T]`` of some of the completions ``[P * G, T]``."""
    ids, counted = completions[rows].clamp_min(0), mask.flatten(0, 1)[rows].bool()
    owner = torch.arange(rows.start, rows.stop, device=ids.device) // mask.shape[1]
    length = 1 + int((counted.any(0) * torch.arange(mask.shape[2], device=ids.device)).max())
    # The last token predicts nothing, but ranks run in step, so that at least one token runs.
    fed = max(1, length - 1)
    positions = prompts.next[owner, None] + torch.arange(fed, device=ids.device)
    prefix = Continued(prompts.states, owner, fed)
    hidden = go_on(model, ids[:, :fed], positions.expand(prompts.axes, -1, -1), prefix)
    hidden = torch.cat([prompts.last[owner, None], hidden], 1)[:, :length]
    used = counted[:, :length]
    of_used = token_log_probs(hidden[used], model.head.weight, ids[:, :length][used], temperature)
    return of_used.new_zeros(counted.shape).masked_scatter(counted, of_used)


def _accumulate(
    model: VisionLanguageModel,
    inputs: Inputs,
    completions: Tensor,
    mask: Tensor,
    loss_of: LossOf,
    temperature: float,
    rows_at_once: int,
    parameters: Sequence[nn.Parameter],
) -> Tensor:
    prompts = read(model, inputs)
    states, ids = prompts.states, completions.flatten(0, 1)
    depth = len(states.keys)

    def backward(leaves: Sequence[Tensor]) -> Tensor:
        restored = states.with_states(leaves[:depth], leaves[depth:-1])
        there = replace(prompts, states=restored, last=leaves[-1])
        total = torch.zeros((), device=ids.device)
        for rows in _portions(mask, rows_at_once):
            loss = loss_of(_of_rows(model, there, ids, mask, rows, temperature), rows)
            torch.autograd.backward(loss)
            total += loss.detach()
        return total

    leaves = [*states.keys, *states.values, prompts.last]
    loss: Tensor = _Accumulated.apply(  # type: ignore[no-untyped-call]
        backward, parameters, *parameters, *leaves
    )
    return loss


class _Accumulated(torch.autograd.Function):
    """Loss whose gradients are computed in the forward pass, portion by portion.

    The parameters are inputs of the function, so that hooks on their gradients run (DDP, FSDP2).
    """

    @staticmethod
    def forward(
        ctx: Any,
        backward: Callable[[Sequence[Tensor]], Tensor],
        parameters: Sequence[nn.Parameter],
        *inputs: Tensor,
    ) -> Tensor:
        needed = ctx.needs_input_grad[2 + len(parameters) :]
        leaves = [
            state.detach().requires_grad_(need)
            for state, need in zip(inputs[len(parameters) :], needed, strict=True)
        ]
        earlier = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        with torch.enable_grad():
            loss = backward(leaves)
        ctx.gradients = [tensor.grad for tensor in (*parameters, *leaves)]
        for parameter, gradient in zip(parameters, earlier, strict=True):
            parameter.grad = gradient
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        return None, None, *(None if g is None else g.mul_(scale) for g in gradients)
