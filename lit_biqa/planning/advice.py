"""Settings to change where a fit does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lit_biqa.planning.phases import peak, phases
from lit_biqa.planning.sizes import Sizes
from lit_biqa.planning.work import Work

_MOST_GPUS = 64  # beyond, sharding frees little


def advice(sizes: Sizes, work: Work, memory: int) -> str:
    """Fewest of the settings, the cheapest first, with which a GPU's memory is enough.

    Args:
        sizes: of the model.
        work: that does not fit.
        memory: bytes of a GPU.

    Returns:
        The settings, as the command line takes them.
    """
    said: list[str] = []
    for setting, changed in _smaller(work):
        said.append(setting)
        if peak(phases(sizes, changed))[1] <= memory:
            return f"set {' '.join(said)}"
        work = changed
    while work.sharded and work.gpus < _MOST_GPUS:
        work = replace(work, gpus=2 * work.gpus)
        if peak(phases(sizes, work))[1] <= memory:
            return f"set {' '.join(said)}, and take {work.gpus} GPUs"
    if not work.rank:
        return "add --config backbone/lora, which trains few weights"
    return "take a smaller model, such as --config backbone/qwen2_5_vl_3b"


def _smaller(work: Work) -> Iterator[tuple[str, Work]]:
    """Settings that save memory, each with the work as it and those before it leave it."""
    if not work.reshard:
        work = replace(work, reshard=True)
        yield "--trainer.strategy.init_args.reshard_after_forward=true", work
    if not work.checkpointing:
        work = replace(work, checkpointing=True)
        yield "--model.init_args.backbone.init_args.tuning.checkpointing=true", work
    if work.rows_at_once > 1:
        work = replace(work, rows_at_once=1)
        yield "--model.init_args.policy.rows_at_once=1", work
    if work.rows_at_once and work.rollout_at_once != 1:
        work = replace(work, rollout_at_once=1)
        yield "--model.init_args.rollouts.prompts_at_once=1", work
    if work.images > 1:
        parts = work.images
        passes = tuple(replace(one, chats=one.chats // parts) for one in work.passes)
        less = f"--data.loader.batch_size={work.gpus} --trainer.accumulate_grad_batches={parts}"
        yield less, replace(work, images=1, passes=passes)
