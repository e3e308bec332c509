"""Sampling of several completions per chat, with each chat read once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_biqa.backbones.inputs import Row, prompts_of
from lit_biqa.backbones.shared_prefix import Growing
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.distributed import alive
from lit_biqa.objectives.chunks import in_autocast
from lit_biqa.rollout.prompts import read
from lit_biqa.types import Chat, Completion, InputError

# Finished rows are dropped once the share of running rows is this small: moving the cache costs a
# step.
_WORTH = 0.75
# Steps between checks for finished rows: a check makes an accelerator wait.
_PATIENCE = 8


@dataclass(frozen=True)
class Sampling:
    """Sampling of tokens.

    Attributes:
        temperature: divisor of the logits; 0 always takes the likeliest token.
        top_k: number of likeliest tokens to draw from; 0 for all.
        top_p: of those, only the likeliest that together have this probability; 1 for all.
        budget: most tokens per completion, including the end token.

    Raises:
        InputError: for values out of range.
    """

    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    budget: int = 256

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature={self.temperature}: give 0 (greedy) or a finite number")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise InputError(
                f"top_k={self.top_k}, top_p={self.top_p}: give top_k >= 0, and top_p on (0, 1]"
            )
        if self.budget < 1:
            raise InputError(f"budget={self.budget}: allow at least one token")

    def choose(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """Draw a token from each row by the inverse of the cumulative distribution.

        Args:
            logits: ``[R, V]``.
            uniforms: ``[R]`` on [0, 1); ignored if greedy.

        Returns:
            Token ids ``[R]``.
        """
        if self.temperature == 0:
            return logits.argmax(1)
        logits = logits.float() / self.temperature
        chosen = None
        if 0 < self.top_k < logits.shape[1]:
            logits, chosen = logits.topk(self.top_k)
        elif self.top_p < 1:
            logits, chosen = logits.sort(descending=True)
        # In float64 a uniform below 1 stays below the total, so that some token is above it.
        probability = logits.softmax(1).double()
        if self.top_p < 1:
            before = probability.cumsum(1) - probability
            probability = probability.masked_fill(before >= self.top_p, 0.0)
        cumulative = probability.cumsum(1)
        goal = uniforms[:, None] * cumulative[:, -1:]
        token = (cumulative <= goal).sum(1, keepdim=True)
        return (token if chosen is None else chosen.gather(1, token))[:, 0]


class RemoteModel(ABC):
    """Model in another process: it answers chats, and its weights and logits stay there."""

    @abstractmethod
    def complete(
        self, chats: Sequence[Chat], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        """The n completions of each chat, in the order of the chats; see `generate`."""

    @abstractmethod
    def next_odds(self, chats: Sequence[Chat], words: Sequence[str]) -> Tensor:
        """Probabilities ``[B, K]`` of K words after each chat, normalised over the words.

        A row is ``nan`` where the model says nothing about any of the words.
        """


ChatModel: TypeAlias = VisionLanguageModel | RemoteModel
"""What readouts ask: a model of this process, or one in another."""

Watch: TypeAlias = Callable[[Tensor], None]
"""Takes the tokens ``[P, n, T]`` that P chats have so far, -1 where there is none yet."""

_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Have a function see completions grow, whoever samples them inside this context.

    It is called after each token of the chats that run together; what it raises ends the sampling.
    A `RemoteModel` does not call it.
    """
    before = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(before)


@torch.no_grad()
def generate(
    model: ChatModel,
    chats: Sequence[Chat],
    n: int = 1,
    sampling: Sampling = Sampling(),
    seeds: Sequence[int] | None = None,
    batch_size: int | None = None,
    encode: Callable[[Chat], Row] | None = None,
) -> list[list[Completion]]:
    """Sample completions of chats, several for each.

    Each chat is read once for its n completions, which share one copy of its keys and values. The
    completions of a chat depend only on its seed: not on the other chats, on their number, or on
    the process (up to the rounding of logits).

    Args:
        model: model with its weights. Sharded weights are gathered once, and ranks may have
            different numbers of chats. A `RemoteModel` has its own encoding and its own way to
            run chats together: ``batch_size`` and ``encode`` say nothing to it.
        chats: of any lengths, with or without images.
        n: completions of each chat.
        sampling: how tokens are chosen.
        seeds: one for each chat; their numbers in the list where none are given.
        batch_size: chats at a time, chats of like length together; all of them if ``None``.
        encode: ``model.encode_prompt``, or a `PromptEncoder` that knows some of the chats already.

    Returns:
        The n completions of each chat, in the order of the chats.

    Raises:
        InputError: if a chat and the budget together exceed the context, before any chat runs.
    """
    if n < 1 or (batch_size is not None and batch_size < 1):
        raise InputError(f"n={n}, batch_size={batch_size}: give at least 1")
    seeds = range(len(chats)) if seeds is None else seeds
    if isinstance(model, RemoteModel):
        return model.complete(chats, n, sampling, seeds)
    model.prepare()
    prompts = [(encode or model.encode_prompt)(chat) for chat in chats]
    lengths = [len(row.ids) for row in prompts]
    model.check_length(max(lengths, default=0), sampling.budget)
    order = sorted(range(len(chats)), key=lengths.__getitem__)
    answers: list[list[Completion]] = [[] for _ in chats]
    with model.unsharded():
        for chosen in _portions(order, batch_size or len(chats)):
            alive()
            uniforms = torch.stack([_uniforms(seeds[i], n, sampling.budget) for i in chosen])
            written = model(_write, [prompts[i] for i in chosen], uniforms, sampling)
            for index, rows in zip(chosen, written.tolist(), strict=True):
                answers[index] = [completion(model, row) for row in rows]
    return answers


def _portions(order: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (order[start : start + size] for start in range(0, len(order), max(1, size)))


def _uniforms(seed: int, n: int, budget: int) -> Tensor:
    return torch.rand(n, budget, generator=torch.Generator().manual_seed(seed))


def completion(model: VisionLanguageModel, row: Sequence[int]) -> Completion:
    """Completion of a row of at least one token; ids below 0 are padding."""
    ids = tuple(token for token in row if token >= 0)
    finished = ids[-1] in model.end
    return Completion(ids, model.text(ids[:-1] if finished else ids), finished)


def _write(
    model: VisionLanguageModel, encoded: Sequence[Row], uniforms: Tensor, sampling: Sampling
) -> Tensor:
    """Tokens ``[P, n, T]`` of P chats, -1 after the end, drawn by ``uniforms [P, n, T]``."""
    device, (_, copies, budget) = model.device, uniforms.shape
    prompts = read(model, prompts_of(encoded).to(device))
    rows = _Rows(uniforms.to(device), torch.tensor(model.end, device=device))
    prefix, advance = Growing(prompts.states, copies, budget), model.stepper()
    patience = 1 if device.type == "cpu" else _PATIENCE
    head = in_autocast(model.head.weight)  # cast once for all steps
    logits = F.linear(prompts.last, head).repeat_interleave(copies, 0)
    watch = _watch.get()
    for step in range(budget):
        rows.add(step, sampling.choose(logits, rows.uniforms(step)))
        if watch is not None:
            watch(rows.written.view(uniforms.shape))
        if step + 1 == budget or (step % patience == 0 and rows.ended()):
            break
        if step % patience == 0 and (selection := rows.thin()):
            prefix.keep(*selection)
        positions = (prompts.next[rows.prompt] + step).expand(prompts.axes, -1)
        logits = F.linear(advance(rows.token(step), positions, prefix), head)
    return rows.written.view(uniforms.shape)


class _Rows:
    """Completions during generation, some of which have ended.

    Args:
        uniforms: ``[P, n, T]``.
        end: tokens that end a row.
    """

    def __init__(self, uniforms: Tensor, end: Tensor) -> None:
        self.copies = uniforms.shape[1]
        self._uniforms, self._end = uniforms.flatten(0, 1), end
        self.written = torch.full_like(self._uniforms, -1, dtype=torch.int64)
        # Places in ``written`` of the rows that still run: G' for each of P' prompts.
        self._place = torch.arange(len(self.written), device=end.device).view(-1, self.copies)
        self._alive = torch.ones_like(self._place, dtype=torch.bool)

    @property
    def prompt(self) -> Tensor:
        """Index of the prompt of each running row."""
        return self._place.flatten() // self.copies

    def uniforms(self, step: int) -> Tensor:
        """Uniform numbers of each running row."""
        return self._uniforms[self._place.flatten(), step]

    def token(self, step: int) -> Tensor:
        """Last token of each running row; any token for a row that has ended."""
        return self.written[self._place.flatten(), step].clamp_min(0)

    def add(self, step: int, token: Tensor) -> None:
        """Add a token to each running row that has not ended."""
        alive = self._alive.flatten()
        self.written[self._place.flatten(), step] = token.masked_fill(~alive, -1)
        ending = (token[:, None] == self._end).any(1)
        self._alive = (alive & ~ending).view_as(self._alive)

    def ended(self) -> bool:
        """True if all rows have ended."""
        return not bool(self._alive.any())

    def thin(self) -> tuple[Tensor, Tensor] | None:
        """Drop finished rows if there are many; returns the prompts that stay, and copies of each.

        All prompts that stay keep the same number of rows, so some finished rows may stay too.
        """
        counts = self._alive.sum(1)
        prompts, copies = counts.nonzero()[:, 0], int(counts.max())
        if len(prompts) * copies > _WORTH * self._alive.numel():
            return None
        order = self._alive[prompts].int().argsort(dim=1, descending=True, stable=True)[:, :copies]
        self._place = self._place[prompts[:, None], order]
        self._alive = self._alive[prompts[:, None], order]
        return prompts, order
