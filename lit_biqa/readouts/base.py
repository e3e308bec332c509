"""The contract of readouts: how a score is read out of a model that speaks."""

from __future__ import annotations

import math
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass

from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.rollout.engine import Sampling, generate
from lit_biqa.tasks import pixels_of
from lit_biqa.types import Batch, ask

GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True)
class Verdict:
    """What was read for one row.

    Attributes:
        score: on [1, 5]; ``nan`` where there is none.
        text: what the model said on the way, empty where it said nothing.
        level: the word it chose, empty where it chose none.
        status: ``ok``, or why there is no score.
        leak: whether the text that was read named a rating; ``None`` where no text was read.
        spread: standard deviation of several readings, ``nan`` where there was one.
        seconds: that the reading took, its share of those of the batch.
    """

    score: float
    text: str = ""
    level: str = ""
    status: str = "ok"
    leak: bool | None = None
    spread: float = math.nan
    seconds: float = math.nan


class Readout(ABC):
    """Reads verdicts for the rows of a batch, under one condition or several.

    Attributes:
        conditions: under which it reads, as results name them.
        sees_image: whether images are opened for it.
    """

    conditions: tuple[str, ...]
    sees_image: bool = True

    @abstractmethod
    def read(self, model: VisionLanguageModel, batch: Batch) -> dict[str, list[Verdict]]:
        """For each condition one verdict for each row."""

    @abstractmethod
    def check(self, model: VisionLanguageModel) -> None:
        """Refuse what cannot work with a backbone, before its weights are loaded.

        Raises:
            InputError: with what and why.
        """


def said(
    model: VisionLanguageModel,
    batch: Batch,
    question: str,
    sampling: Sampling,
    at_once: int,
    seed: int,
) -> list[str]:
    """What the model answers to a question about each image of a batch."""
    chats = [ask(question, pixels_of(batch, row)) for row in range(len(batch["index"]))]
    answers = generate(model, chats, 1, sampling, seeds_of(batch, seed), at_once)
    return [answer[0].text.strip() for answer in answers]


def seeds_of(batch: Batch, seed: int) -> list[int]:
    """A seed for each image, the same in whichever batch and process it is read."""
    pairs = zip(batch["dataset"], batch["index"].tolist(), strict=True)
    return [zlib.crc32(f"{seed}/{dataset}/{index}".encode()) for dataset, index in pairs]
