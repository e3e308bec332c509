"""Interface of readouts, which read scores from a model that writes text."""

from __future__ import annotations

import math
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass

from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.rollout.engine import ChatModel, Sampling, generate
from lit_biqa.tasks import pixels_of
from lit_biqa.types import Batch, ask

GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True)
class Verdict:
    """Result of a readout for one row.

    Attributes:
        score: score on [1, 5]; ``nan`` if there is none.
        text: text that the model generated before the score; empty if none.
        level: level word that was read; empty if none.
        status: ``ok``, or the reason for the missing score.
        leak: true if the text that was read names a rating; ``None`` if no text was read.
        spread: standard deviation of several readings; ``nan`` for a single one.
        seconds: time of the reading: this row's share of its batch.
    """

    score: float
    text: str = ""
    level: str = ""
    status: str = "ok"
    leak: bool | None = None
    spread: float = math.nan
    seconds: float = math.nan


class Readout(ABC):
    """Reads verdicts for the rows of a batch, under one or more conditions.

    Attributes:
        conditions: names of its conditions in results.
        sees_image: true if it reads images.
    """

    conditions: tuple[str, ...]
    sees_image: bool = True

    @abstractmethod
    def read(self, model: ChatModel, batch: Batch) -> dict[str, list[Verdict]]:
        """Verdicts by condition, one for each row."""

    @abstractmethod
    def check(self, model: VisionLanguageModel) -> None:
        """Refuse a backbone that the readout cannot work with, before weights load.

        Raises:
            InputError: names the setting and the reason.
        """


def answers_to(
    model: ChatModel,
    batch: Batch,
    question: str,
    sampling: Sampling,
    at_once: int,
    seed: int,
) -> list[str]:
    """Answers of the model to a question about each image of a batch."""
    chats = [ask(question, pixels_of(batch, row)) for row in range(len(batch["index"]))]
    answers = generate(model, chats, 1, sampling, seeds_of(batch, seed), at_once)
    return [answer[0].text.strip() for answer in answers]


def seeds_of(batch: Batch, seed: int) -> list[int]:
    """Seed of each image, the same in any batch and on any process."""
    pairs = zip(batch["dataset"], batch["index"].tolist(), strict=True)
    return [zlib.crc32(f"{seed}/{dataset}/{index}".encode()) for dataset, index in pairs]
