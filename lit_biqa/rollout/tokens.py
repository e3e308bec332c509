"""Prompts and completions as tensors of token ids."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_biqa.backbones.inputs import Inputs, Row, prompts_of
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.types import Chat, Completion, ask

_NOTHING = ask(".")  # keeps the place of a missing chat


@dataclass(frozen=True, eq=False)
class CompletionTokens:
    """Token ids of R prompts with n completions each.

    Attributes:
        inputs: encoded prompts.
        ids: ``[R, n, T]``, padded on the right.
        mask: ``[R, n, T]``, true at tokens, including the end token. A missing chat keeps its
            place without tokens: ranks that step together need the same number of rows.
        rating: ``[R, n, T]``, true from the token in which ``<answer>`` begins.
    """

    inputs: Inputs
    ids: Tensor
    mask: Tensor
    rating: Tensor


def completion_tokens(
    model: VisionLanguageModel,
    chats: Sequence[Chat | None],
    completions: Sequence[Sequence[Completion]],
    n: int,
    encode: Callable[[Chat], Row],
) -> CompletionTokens:
    """Turn chats and completions into tensors on the model's device.

    Args:
        model: whose tokens they are.
        chats: ``None`` where nothing was asked.
        completions: n of each chat that was.
        n: how many.
        encode: `ChatEncoder.encode_prompt`, or a `PromptEncoder` that knows the chats already.
    """
    shape = (len(chats), n, max((len(c.ids) for some in completions for c in some), default=0) or 1)
    ids, mask = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.bool)
    rating = torch.zeros_like(mask)
    for row, some in enumerate(completions):
        for place, one in enumerate(some):
            length = len(one.ids)
            ids[row, place, :length] = torch.tensor(one.ids)
            mask[row, place, :length] = True
            rating[row, place, answer_at(model, one) : length] = True
    inputs = prompts_of([encode(chat or _NOTHING) for chat in chats]).to(model.device)
    return CompletionTokens(inputs, *(each.to(model.device) for each in (ids, mask, rating)))


def answer_at(model: VisionLanguageModel, completion: Completion) -> int:
    """Index of the first token with a part of ``<answer>``; the number of tokens without one."""
    start = completion.text.find("<answer>")
    if start < 0:
        return len(completion.ids)
    counts = range(1, len(completion.ids) + 1)
    return bisect_right(counts, start, key=lambda count: len(model.text(completion.ids[:count])))
