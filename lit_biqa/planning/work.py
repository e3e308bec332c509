"""Work of one GPU in a step: what a recipe's settings ask of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from lit_biqa.methods.chat import ChatMethod
from lit_biqa.methods.grpo import GRPO
from lit_biqa.methods.optimizer import made_on_trial
from lit_biqa.methods.sft import SFT
from lit_biqa.types import InputError

#: Tokens of question and answer, where they are not known before data are read.
TEXT_TOKENS = 512


@dataclass(frozen=True)
class Pass:
    """Chats of one GPU that are read together, and their completions.

    Attributes:
        chats: number of chats.
        length: positions of a chat.
        copies: completions of each chat; 0 in supervised fine-tuning.
        trained: true if the pass contributes to the loss.
    """

    chats: int
    length: int
    copies: int = 0
    trained: bool = True


@dataclass(frozen=True)
class Work:
    """Settings that memory follows from.

    Attributes:
        method: method of the fit.
        gpus: processes, one for each GPU.
        sharded: true if they share the weights (FSDP2); else each holds a copy.
        images: images of a GPU in a step, that are read together.
        passes: one or two.
        budget: positions of a completion.
        rows_at_once: completions in one forward and backward pass of the loss.
        rollout_at_once: chats sampled together; ``None`` for all.
        reference: true for a copy of the weights before training.
        checkpointing: true if activations are recomputed.
        rank: rank of LoRA's updates; 0 for full tuning.
        precision: bytes of a value of the weights.
        autocast: true if products are in bfloat16.
        moments: optimizer states as large as the trained weights; AdamW has 2.
        gather: bytes of a gathered value; ``None`` as the weights are held.
        foreach: true if the optimizer steps all weights at once, as torch does on CUDA.
        stored: true if weights stay in their files until they are sharded.
        reshard: true if a block is whole only for a pass of its own.
    """

    method: Literal["sft", "grpo"]
    gpus: int
    sharded: bool
    images: int
    passes: tuple[Pass, ...]
    budget: int = 0
    rows_at_once: int = 0
    rollout_at_once: int | None = None
    reference: bool = False
    checkpointing: bool = False
    rank: int = 0
    precision: int = 4
    autocast: bool = False
    moments: int = 2
    gather: int | None = None
    foreach: bool = True
    stored: bool = False
    reshard: bool = True

    def share(self, size: int) -> int:
        """Bytes of a GPU, of weights that may be sharded."""
        return -(-size // self.gpus) if self.sharded else size


def work_of(
    method: ChatMethod,
    batch: int,
    precision: str,
    image: int,
    text: int,
    gpus: int,
    sharded: bool,
    foreach: bool = True,
    reshard: bool = True,
) -> Work:
    """Work of a method.

    Args:
        method: not loaded.
        batch: images of a step over all GPUs, in one of its accumulated parts.
        precision: of the Trainer, such as ``bf16-mixed``.
        image: positions of an image.
        text: positions of question and answer of a row, or of the question of a completion.
        gpus: number of GPUs.
        sharded: see `Work`.
        foreach: see `Work`.
        reshard: see `Work`.

    Raises:
        InputError: if the batch cannot be divided among the GPUs, or for another method.
    """
    if batch % gpus:
        raise InputError(
            f"data.loader.batch_size={batch} cannot be divided among {gpus} GPUs: take a multiple"
        )
    tuning = method.backbone.tuning
    rows = batch // gpus
    common: dict[str, Any] = {
        "gpus": gpus,
        "sharded": sharded,
        "images": rows,
        "checkpointing": tuning.checkpointing,
        "rank": 0 if tuning.how == "full" else tuning.rank,
        "precision": tuning.dtype.itemsize,
        "autocast": precision.endswith("-mixed"),
        "moments": moments(method),
        "gather": 2 if sharded and precision == "bf16-mixed" else None,
        "foreach": foreach,
        "reshard": reshard,
        "stored": sharded and method.backbone.from_checkpoint and tuning.how != "qlora",
    }
    if isinstance(method, SFT):
        length = text + image * method.sees_image
        return Work("sft", passes=(Pass(rows, length),), **common)
    if isinstance(method, GRPO):
        return _of_policy(method, rows, image, text, common)
    raise InputError(f"{type(method).__name__} is not planned: take a recipe of SFT or GRPO")


def _of_policy(method: GRPO, rows: int, image: int, text: int, common: dict[str, Any]) -> Work:
    paradigm, budget = method.paradigm, method.objective.budget
    first = Pass(rows, image + text, paradigm.group, paradigm.updates[0])
    passes: tuple[Pass, ...] = (first,)
    if paradigm.second:
        # The second prompt holds the caption of the first pass.
        chats = rows * paradigm.group
        passes += (Pass(chats, text + budget, paradigm.second, paradigm.updates[1]),)
    return Work(
        "grpo",
        passes=passes,
        budget=budget,
        rows_at_once=method.policy.rows_at_once,
        rollout_at_once=method.runner.prompts_at_once,
        reference=method.reference.copied,
        **common,
    )


def moments(method: ChatMethod) -> int:
    """States of the method's optimizer that are as large as the weights, seen after a step."""
    optimizer = made_on_trial(method.make_optimizer)
    (weight,) = optimizer.param_groups[0]["params"]
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    state = optimizer.state[weight].values()
    return sum(isinstance(v, torch.Tensor) and v.shape == weight.shape for v in state)
