"""Log-probabilities of completions that share a prompt: ours beside prefix-grouper's, and plain.

All run the same decoder forward and backward on the same completions. ``plain`` runs each
completion after a copy of its prompt; the others run a prompt once for its group. prefix-grouper is
used as its authors advise, through transformers' attention interface. It names FlashAttention below
itself, which no CPU has: torch's scaled_dot_product_attention with FlashAttention's causal mask
takes its place. In its favour, the head runs over completions alone, as ours does, and no prompt is
padded.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_data import made_up_words
from bench_meters import Allocated, by_turns, one_thread, over, timed
from bench_rows import Row
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from lit_biqa.backbones.inputs import Inputs
from lit_biqa.backbones.tiny_chat import TinyQwenVL
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.objectives.policy import token_log_probs
from lit_biqa.rollout.log_probs import accumulated_loss, completion_log_probs
from lit_biqa.types import InputError

GROUPED = "prefix_grouper_attention"  # the name under which prefix-grouper registers
CAUSAL = "causal_sdpa"


@dataclass(frozen=True)
class Shape:
    """Sizes of a comparison.

    Attributes:
        asked: tokens of each prompt.
        told: tokens of each completion.
        group: completions of a prompt.
        prompts: in the batch.
    """

    asked: int = 402
    told: int = 128
    group: int = 8
    prompts: int = 2

    def __str__(self) -> str:
        return f"{self.prompts} prompts of {self.asked}, {self.group} x {self.told} tokens"


@dataclass(frozen=True)
class Plan:
    """Sizes of the measurement.

    Attributes:
        vocabulary: of the model.
        width: of the model.
        layers: of its decoder.
        shapes: that are compared.
        turns: that each way is timed for.
    """

    vocabulary: int = 2048
    width: int = 224
    layers: int = 5
    shapes: Sequence[Shape] = (Shape(), Shape(told=256), Shape(group=16), Shape(asked=1200))
    turns: int = 5


SMALL = Plan(512, 32, 2, [Shape(20, 4, 2, 2)], 1)


def measure(small: bool) -> Iterator[Row]:
    """Rows of all shapes, one by one.

    Args:
        small: very little of everything, to see that it runs.

    Raises:
        InputError: if prefix-grouper is not there.
    """
    if importlib.util.find_spec("prefix_grouper") is None:
        raise InputError("a prompt is shared as prefix-grouper does: pip install 'lit_biqa[bench]'")
    plan = SMALL if small else Plan()
    with tempfile.TemporaryDirectory() as made, one_thread():
        words = made_up_words(Path(made), 2000)
        sizes = plan.vocabulary, plan.width, plan.layers
        model = TinyQwenVL([str(words)], *sizes, tuning=Tuning(parts=("language",)))
        model.load()
        for shape in plan.shapes:
            yield from compared(model, shape, plan.turns)


def compared(model: TinyQwenVL, shape: Shape, turns: int) -> Iterator[Row]:
    """Differences, seconds and memory of a forward and backward pass."""
    work = Work.drawn(shape)
    ways: dict[str, Callable[[], Tensor]] = {
        "ours": partial(ours, model, work),
        "ours, 8 rows at once": partial(ours_by_portions, model, work),
        "prefix-grouper": partial(grouped, model, work),
        "plain": partial(plain, model, work),
    }
    found = {way: gradients(model, run) for way, run in ways.items()}  # which also warms all up
    for way in list(ways)[:-1]:
        change = (found[way] - found["plain"]).norm() / found["plain"].norm()
        yield Row(f"{shape}: {way}, gradients against plain", float(change), "relative", 1e-4)
    seconds = by_turns([partial(timed, run) for run in ways.values()], turns)
    took = dict(zip(ways, seconds, strict=True))
    peaks = {way: allocated(run) for way, run in ways.items()}
    for way in ways:
        yield Row(f"{shape}: {way}", statistics.median(took[way]), "s")
        yield Row(f"{shape}: {way}, memory growth", peaks[way] / 2**20, "MiB")
    for way in ("prefix-grouper", "plain"):
        for name in ("ours", "ours, 8 rows at once"):
            yield Row(f"{shape}: {way} over {name}, seconds", over(took[way], took[name]))
            yield Row(f"{shape}: {name} over {way}, memory", peaks[name] / peaks[way])


@dataclass(frozen=True)
class Work:
    """Token ids that are run: prompts ``[P, L]`` and completions ``[P, G, T]``."""

    prompts: Tensor
    completions: Tensor

    @classmethod
    def drawn(cls, shape: Shape) -> Work:
        """Ordinary tokens at random, the same for the same shape."""
        draw = partial(torch.randint, 10, 256, generator=torch.Generator().manual_seed(0))
        sizes = shape.prompts, shape.group, shape.told
        return cls(draw((shape.prompts, shape.asked)), draw(sizes))

    @property
    def mask(self) -> Tensor:
        """Mask of the completions, in which all tokens count."""
        return torch.ones_like(self.completions, dtype=torch.bool)

    @property
    def advantages(self) -> Tensor:
        """Advantages ``[P, G, 1]``, which differ within a group, so that no gradient is zero."""
        prompts, group, _ = self.completions.shape
        return torch.linspace(-1, 1, group)[:, None].expand(prompts, -1, -1)

    def weigh(self, log_probs: Tensor) -> Tensor:
        """Loss of the completions' log-probabilities ``[P, G, T]``."""
        return (log_probs * self.advantages).mean()


def gradients(model: TinyQwenVL, run: Callable[[], Tensor]) -> Tensor:
    """Gradients of all parameters after one pass, flat."""
    run()
    return torch.cat([p.grad.flatten() for p in model.trained() if p.grad is not None])


def allocated(run: Callable[[], Tensor]) -> int:
    """Bytes by which memory grows at most in one pass."""
    with (memory := Allocated()):
        run()
    return memory.peak


def stepped(model: TinyQwenVL, loss: Callable[[], Tensor]) -> Tensor:
    """The loss, after its backward pass into empty gradients."""
    model.zero_grad()
    value = loss()
    value.backward()  # type: ignore[no-untyped-call]
    return value.detach()


def inputs(work: Work) -> Inputs:
    """Prompts of text alone, none of them padded."""
    ids = work.prompts
    there = torch.ones_like(ids, dtype=torch.bool)
    places = torch.arange(ids.shape[1]).expand(3, *ids.shape)
    return Inputs(ids, there, ~there, places, None, (None,) * len(ids))


def ours(model: TinyQwenVL, work: Work) -> Tensor:
    """Our pass over all completions at once."""
    whole = inputs(work)

    def loss() -> Tensor:
        return work.weigh(completion_log_probs(model, whole, work.completions, work.mask))

    return stepped(model, loss)


def ours_by_portions(model: TinyQwenVL, work: Work) -> Tensor:
    """Our pass as a fit does it: few completions at a time, forward and backward."""
    advantages = work.advantages.flatten(0, 1)

    def loss_of(log_probs: Tensor, rows: slice) -> Tensor:
        return (log_probs * advantages[rows]).mean(1).sum() / len(advantages)

    whole, told = inputs(work), (work.completions, work.mask)
    return stepped(model, lambda: accumulated_loss(model, whole, *told, loss_of, rows_at_once=8))


def plain(model: TinyQwenVL, work: Work) -> Tensor:
    """Each completion after a copy of its prompt, through transformers with sdpa."""
    count, told = work.completions.shape[1:]
    copies = work.prompts.repeat_interleave(count, 0)
    ids = torch.cat([copies, work.completions.flatten(0, 1)], 1)
    places = torch.arange(ids.shape[1]).expand(ids.shape)

    def loss() -> Tensor:
        hidden = decoder(model, "sdpa", ids, places)[:, -told - 1 : -1]
        return work.weigh(log_probs(model, hidden, work))

    return stepped(model, loss)


def grouped(model: TinyQwenVL, work: Work) -> Tensor:
    """The prompt once for its completions, by prefix-grouper."""
    from prefix_grouper import PrefixGrouper
    from prefix_grouper.utils.register_transformers import register_attention
    from transformers import AttentionInterface

    register_attention()
    AttentionInterface.register(CAUSAL, causal_sdpa)
    count, told = work.completions.shape[1:]
    suffixes = work.completions.flatten(0, 1)
    masks = torch.ones_like(work.prompts), torch.ones_like(suffixes)
    asked = work.prompts.shape[1]
    places = torch.cat([torch.arange(asked), torch.arange(asked, asked + told).repeat(count)])

    def loss() -> Tensor:
        grouper = PrefixGrouper.from_ungrouped_masks(*masks, count)
        ids = grouper.concat_input(work.prompts, masks[0], suffixes, masks[1])
        shared = {"prefix_grouper": grouper, "prefix_grouper_attn_func": CAUSAL}
        hidden = decoder(model, GROUPED, ids, places.expand(ids.shape), **shared)
        _, _, answered, _ = grouper.split_output(hidden, include_prefix_last=1)
        return work.weigh(log_probs(model, answered[:, :-1], work))

    return stepped(model, loss)


def causal_sdpa(
    _: nn.Module, query: Tensor, key: Tensor, value: Tensor, *__: object, **___: object
) -> tuple[Tensor, None]:
    """Attention of the last positions to all up to their own, as FlashAttention has it."""
    asked, there = query.shape[2], key.shape[2]
    seen = None if asked == there else torch.ones(asked, there).tril(there - asked).bool()
    found = scaled_dot_product_attention(
        query, key, value, seen, is_causal=seen is None, enable_gqa=True
    )
    return found.transpose(1, 2), None


def decoder(
    model: TinyQwenVL, attention: str, ids: Tensor, places: Tensor, **shared: Any
) -> Tensor:
    """Hidden states ``[B, L, D]`` of transformers' decoder."""
    text = model.model.model.language_model
    before = text.config._attn_implementation
    text.set_attn_implementation(attention)
    try:
        found = text(
            input_ids=ids, position_ids=places.expand(3, -1, -1), use_cache=False, **shared
        )
    finally:
        text.set_attn_implementation(before)
    hidden: Tensor = found.last_hidden_state
    return hidden


def log_probs(model: TinyQwenVL, hidden: Tensor, work: Work) -> Tensor:
    """Log-probabilities ``[P, G, T]`` of all completions."""
    ids = work.completions.flatten()
    found = token_log_probs(hidden.flatten(0, 1), model.head.weight, ids, 1.0)
    return found.view(work.completions.shape)
