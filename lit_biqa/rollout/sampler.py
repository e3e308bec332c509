"""Completions of the passes of a step, the same on any number of processes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.rollout.engine import Sampling, generate
from lit_biqa.rollout.prompts import PromptEncoder
from lit_biqa.types import Chat, Completion


class CompletionSampler:
    """Samples completions of one pass after another.

    The seed of a completion follows from the step, the pass, the image and the place of the chat
    among those of the image; not from the process or from other completions.

    Args:
        model: to sample from.
        keys: data set and row of P images.
        step: names the step, with the seed of the run.
        sampling: how tokens are chosen.
        at_once: chats that are sampled together; all if ``None``.
        encode: encodes the chats, for others who need their tokens too; the model if ``None``.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        keys: Sequence[tuple[str, int]],
        step: str,
        sampling: Sampling,
        at_once: int | None = None,
        encode: PromptEncoder | None = None,
    ) -> None:
        self.model, self.keys, self.step = model, keys, step
        self.sampling, self.at_once, self.encode, self.number = sampling, at_once, encode, 0

    def sample(self, chats: Sequence[Chat | None], n: int) -> list[list[Completion]]:
        """Completions, n of each chat, none where there is none; as many chats for each image."""
        self.number += 1
        asked = {place: chat for place, chat in enumerate(chats) if chat is not None}
        seeds = [self._seed(place, len(chats) // len(self.keys)) for place in asked]
        chosen = list(asked.values())
        answers = generate(self.model, chosen, n, self.sampling, seeds, self.at_once, self.encode)
        found: list[list[Completion]] = [[] for _ in chats]
        for place, some in zip(asked, answers, strict=True):
            found[place] = some
        return found

    def _seed(self, place: int, each: int) -> int:
        dataset, index = self.keys[place // each]
        name = f"{self.step}/{self.number}/{dataset}/{index}/{place % each}"
        return zlib.crc32(name.encode())
