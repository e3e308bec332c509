"""Phases of a training step, each with its bytes by what holds them."""

from __future__ import annotations

from collections.abc import Mapping

from lit_biqa.planning import activations, states
from lit_biqa.planning.sizes import Sizes
from lit_biqa.planning.work import Pass, Work

#: What holds memory, in the order of the table.
HOLDERS = (
    *("weights", "optimizer", "gradients", "reference model", "gathered weights"),
    *("keys and values", "activations", "logits"),
)
Bytes = Mapping[str, int]


def phases(sizes: Sizes, work: Work) -> dict[str, Bytes]:
    """Bytes of one GPU in each phase of a step after the first, by what holds them.

    Args:
        sizes: of the model.
        work: of a GPU.

    Returns:
        For each phase the bytes of each of `HOLDERS`; a phase's peak is their sum.
    """
    stages = _sft(sizes, work) if work.method == "sft" else _grpo(sizes, work)
    stages["optimizer step"] = {
        "gradients": states.gradients(sizes, work),
        "optimizer": states.step(sizes, work),
    }
    always = {
        "weights": states.weights(sizes, work),
        "optimizer": states.optimizer(sizes, work),
        "reference model": states.reference(sizes, work),
    }
    return {
        name: {holder: always.get(holder, 0) + more.get(holder, 0) for holder in HOLDERS}
        for name, more in stages.items()
    }


def peak(plan: Mapping[str, Bytes]) -> tuple[str, int]:
    """Phase with the highest sum, and the sum."""
    sums = {name: sum(held.values()) for name, held in plan.items()}
    name = max(sums, key=sums.__getitem__)
    return name, sums[name]


def _sft(sizes: Sizes, work: Work) -> dict[str, Bytes]:
    (rows,) = work.passes
    positions, all_kept = rows.chats * rows.length, activations.of_tower(sizes, work)
    all_kept += activations.kept(sizes.decoder, work, positions)
    one = activations.recomputed(sizes.decoder, work, positions)
    return {
        "forward": {
            "gathered weights": states.gathered_forward(sizes, work),
            "gradients": 2 * sizes.head.trained,  # the likelihood computes it, then scales it
            "activations": all_kept + one * work.checkpointing,
            "logits": activations.logits(sizes, work, positions),
        },
        "backward": {
            "gathered weights": states.gathered(sizes, work),
            "gradients": states.in_backward(sizes, work),
            "activations": activations.of_tower(sizes, work) // max(1, sizes.tower.depth),
        },
    }


def _grpo(sizes: Sizes, work: Work) -> dict[str, Bytes]:
    trained = [one for one in work.passes if one.trained]
    prompts = activations.of_tower(sizes, work) + sum(_prompts(sizes, work, p) for p in trained)
    keys = sum(activations.cached(sizes, work, one.chats * one.length) for one in trained)
    loss = max((_portion(sizes, work, one) for one in trained), key=lambda b: sum(b.values()))
    # Without recomputation the keys and values are among what attention has saved.
    held = keys * (1 + work.checkpointing)
    stages: dict[str, Bytes] = {"rollout": _rollout(sizes, work)}
    if work.reference or work.rank:
        stages["reference"] = _referred(sizes, work, trained)
    stages["loss"] = {
        "gathered weights": states.whole(sizes, work) + states.cast(sizes, work),
        "gradients": states.in_portion(sizes, work),
        "keys and values": loss["keys and values"] + held,
        "activations": prompts + loss["activations"],
        "logits": loss["logits"],
    }
    stages["backward"] = {
        "gathered weights": states.gathered(sizes, work),
        "gradients": states.in_backward(sizes, work),
        "keys and values": held,
        "activations": prompts,
    }
    return stages


def _prompts(sizes: Sizes, work: Work, one: Pass) -> int:
    return activations.kept(sizes.decoder, work, one.chats * one.length)


def _portion(sizes: Sizes, work: Work, one: Pass) -> dict[str, int]:
    """Bytes of a portion of completions in the loss, of its prompts without their own."""
    tokens = min(work.rows_at_once, one.chats * one.copies) * work.budget
    again = activations.recomputed(sizes.decoder, work, tokens) * work.checkpointing
    return {
        "keys and values": activations.attended(sizes, work, one),
        "activations": activations.kept(sizes.decoder, work, tokens) + again,
        "logits": activations.logits(sizes, work, tokens),
    }


def _rollout(sizes: Sizes, work: Work) -> Bytes:
    def states_of(one: Pass) -> int:
        chats = min(one.chats, work.rollout_at_once or one.chats)
        return activations.cached(sizes, work, chats * (one.length + one.copies * work.budget))

    rows = max(min(p.chats, work.rollout_at_once or p.chats) * p.copies for p in work.passes)
    return {
        "gathered weights": states.gathered_for_rollout(sizes, work),
        "keys and values": max(map(states_of, work.passes)),
        "logits": activations.sampled(sizes, rows),
    }


def _referred(sizes: Sizes, work: Work, trained: list[Pass]) -> Bytes:
    """A pass without gradients: one block at a time."""

    def sums(one: Pass) -> int:
        return activations.recomputed(sizes.decoder, work, one.chats * one.length)

    longest = max(trained, key=sums)
    keys = activations.cached(sizes, work, longest.chats * longest.length)
    tokens = min(work.rows_at_once, longest.chats * longest.copies) * work.budget
    repeated = activations.attended(sizes, work, longest)
    return {
        "gathered weights": states.whole(sizes, work) + states.cast(sizes, work),
        "keys and values": keys
        + (repeated if work.checkpointing else repeated // sizes.decoder.depth),
        "activations": sums(longest),
        "logits": activations.logits(sizes, work, tokens),
    }
