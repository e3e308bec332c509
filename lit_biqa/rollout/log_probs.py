"""How probable completions are, each prompt computed once for all of its completions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed.fsdp import FSDPModule

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

    Equal to running each completion behind its own copy of its prompt, but prompt and image are
    computed once for each group, forward and backward.

    Args:
        model: with its weights.
        inputs: of P prompts, padded on the left, as ``model.encode`` makes them without answers.
        completions: token ids ``[P, G, T]``, padded on the right with any tokens.
        mask: ``[P, G, T]``, true for tokens that count.
        temperature: by which logits are divided.
        rows_at_once: completions that run at a time, which bounds memory where no gradient is
            taken; all of them if ``None``. Ranks that share the weights run equally many times.

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
    """A loss on `completion_log_probs`, without the activations of all completions at once.

    The prompts run once. Completions run a few at a time, forward and straight away backward, down
    to the prompts' keys and values; backward on what is returned then goes once through the
    prompts. Nothing is computed twice. The caller does what it does with any loss: it is scaled,
    accumulated, and reduced by DDP and FSDP2 as always.

    It costs a second set of gradients while earlier batches' gradients are accumulated. With
    FSDP2, weights are gathered and gradients reduced once for each portion of completions instead
    of once: few large portions are faster there.

    Args:
        model: with its weights.
        inputs: see `completion_log_probs`.
        completions: likewise, ``[P, G, T]``.
        mask: likewise.
        loss_of: called with the log-probabilities ``[R, T]`` of a portion and with its place among
            the P * G completions, prompt by prompt; returns what it adds to the loss, a scalar.
        temperature: by which logits are divided.
        rows_at_once: completions that run at a time.

    Returns:
        The summed loss, a scalar. It can be differentiated once.
    """
    loss: Tensor = model(_accumulate, inputs, completions, mask, loss_of, temperature, rows_at_once)
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
    found = [_of_rows(model, prompts, ids, mask, rows, temperature) for rows in portions]
    return torch.cat(found)


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
    # The last token predicts nothing; yet ranks keep step, so some token runs through the layers.
    fed = max(1, length - 1)
    positions = prompts.next[owner, None] + torch.arange(fed, device=ids.device)
    prefix = Continued(prompts.states, owner, fed)
    hidden = go_on(model, ids[:, :fed], positions.expand(prompts.axes, -1, -1), prefix)
    hidden = torch.cat([prompts.last[owner, None], hidden], 1)[:, :length]
    said = counted[:, :length]
    of_said = token_log_probs(hidden[said], model.head.weight, ids[:, :length][said], temperature)
    return of_said.new_zeros(counted.shape).masked_scatter(counted, of_said)


def _accumulate(
    model: VisionLanguageModel,
    inputs: Inputs,
    completions: Tensor,
    mask: Tensor,
    loss_of: LossOf,
    temperature: float,
    rows_at_once: int,
) -> Tensor:
    prompts = read(model, inputs)
    states, ids = prompts.states, completions.flatten(0, 1)
    depth = len(states.keys)

    def backward(leaves: Sequence[Tensor]) -> Tensor:
        kept = states.with_states(leaves[:depth], leaves[depth:-1])
        there = replace(prompts, states=kept, last=leaves[-1])
        total = torch.zeros((), device=ids.device)
        for rows in _portions(mask, rows_at_once):
            _gather(model)
            loss = loss_of(_of_rows(model, there, ids, mask, rows, temperature), rows)
            torch.autograd.backward(loss)
            total += loss.detach()
        return total

    parameters = _trained(model)
    leaves = [*states.keys, *states.values, prompts.last]
    loss: Tensor = _Accumulated.apply(  # type: ignore[no-untyped-call]
        backward, parameters, *parameters, *leaves
    )
    return loss


def _trained(model: VisionLanguageModel) -> list[nn.Parameter]:
    """The parameters that gradients are left on: the shards, where weights are sharded."""
    if isinstance(model, FSDPModule):  # its root stays whole within forward unless told otherwise
        model.set_reshard_after_forward(True, recurse=False)
        model.reshard()
        model.set_reshard_after_forward(False, recurse=False)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _gather(model: VisionLanguageModel) -> None:
    """Bring the weights outside blocks together, which a backward pass has left sharded."""
    if isinstance(model, FSDPModule):
        model.unshard()


class _Accumulated(torch.autograd.Function):
    """A loss whose gradients are made in the forward pass, portion by portion.

    The parameters are among its inputs, so that their gradients reach whoever waits for them.
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
        ctx.gradients = [each.grad for each in (*parameters, *leaves)]
        for parameter, gradient in zip(parameters, earlier, strict=True):
            parameter.grad = gradient
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        return None, None, *(None if g is None else g.mul_(scale) for g in gradients)
