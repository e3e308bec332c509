"""Prompts that run once, with their states kept for all completions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lit_biqa.backbones.chat_encoding import ChatEncoder
from lit_biqa.backbones.inputs import Inputs, Row
from lit_biqa.backbones.shared_prefix import NAME, Continued, Prompts
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.types import Chat


class PromptEncoder:
    """Encodes each chat once, for the rollout and for the loss on what was sampled.

    A chat is known by identity: the same object gives the same row.

    Args:
        model: whose tokens they are.
    """

    def __init__(self, model: ChatEncoder) -> None:
        self._model = model
        self._rows: dict[Chat, Row] = {}

    def __call__(self, chat: Chat) -> Row:
        """See `ChatEncoder.encode_prompt`."""
        if chat not in self._rows:
            self._rows[chat] = self._model.encode_prompt(chat)
        return self._rows[chat]


@dataclass(frozen=True, eq=False)
class Read:
    """Decoder states of P prompts.

    Attributes:
        states: keys and values of each layer.
        last: last hidden states ``[P, D]``, which predict the first token of a completion.
        next: position of that token ``[P]``.
        axes: number of axes of rotary positions.
    """

    states: Prompts
    last: Tensor
    next: Tensor
    axes: int


def read(model: VisionLanguageModel, inputs: Inputs) -> Read:
    """Run prompts, padded on the left, with their images; called inside ``model(work, ...)``.

    Raises:
        RuntimeError: if the decoder's attention is not `shared_prefix.NAME`.
    """
    states = Prompts(inputs.mask)
    hidden = model.hidden(inputs, prefix=states).last_hidden_state
    if not states.keys:
        raise RuntimeError(f"the decoder shares no prompts: set_attn_implementation({NAME!r})")
    return Read(states, hidden[:, -1], inputs.next_positions, len(inputs.positions))


def go_on(model: VisionLanguageModel, ids: Tensor, positions: Tensor, prefix: Continued) -> Tensor:
    """Hidden states ``[R, L, D]`` of text ``ids [R, L]`` that continues prompts.

    Args:
        model: called inside ``model(work, ...)``.
        ids: token ids.
        positions: position of each token, ``[A, R, L]``.
        prefix: the prompts, and the prompt of each row.
    """
    embeds: Tensor = model.token_embedding(ids)
    hidden: Tensor = model.decode(embeds, None, positions, prefix=prefix).last_hidden_state
    return hidden
