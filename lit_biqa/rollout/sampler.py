"""Completions of the passes of a step, the same on any number of processes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from lit_biqa.rollout.engine import ChatModel, Sampling, generate
from lit_biqa.rollout.prompts import PromptEncoder
from lit_biqa.types import Chat, Completion


class CompletionSampler:
    """Samples the completions of one pass after another.

    The seed of a completion depends on the step, the pass, the image and the number of the chat
    among those of the image; not on the process or on other completions.

    Args:
        model: model to sample from.
        keys: data set and row of P images.
        step: names the step, with the seed of the run.
        sampling: how tokens are chosen.
        at_once: chats that are sampled together; all if ``None``.
        encode: encodes the chats, for others who need their tokens too; the model if ``None``.
    """

    def __init__(
        self,
        model: ChatModel,
        keys: Sequence[tuple[str, int]],
        step: str,
        sampling: Sampling,
        at_once: int | None = None,
        encode: PromptEncoder | None = None,
    ) -> None:
        self.model, self.keys, self.step = model, keys, step
        self.sampling, self.at_once, self.encode, self.number = sampling, at_once, encode, 0

    def sample(self, chats: Sequence[Chat | None], n: int) -> list[list[Completion]]:
        """Sample n completions of each chat, none for ``None``; all images have as many chats."""
        self.number += 1
        asked = {place: chat for place, chat in enumerate(chats) if chat is not None}
        seeds = [self._seed(place, len(chats) // len(self.keys)) for place in asked]
        chosen = list(asked.values())
        answers = generate(self.model, chosen, n, self.sampling, seeds, self.at_once, self.encode)
        completions: list[list[Completion]] = [[] for _ in chats]
        for place, some in zip(asked, answers, strict=True):
            completions[place] = some
        return completions

    def _seed(self, place: int, per_image: int) -> int:
        dataset, index = self.keys[place // per_image]
        name = f"{self.step}/{self.number}/{dataset}/{index}/{place % per_image}"
        return zlib.crc32(name.encode())
