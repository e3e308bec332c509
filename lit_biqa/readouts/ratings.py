"""Scores from ratings that a model writes: about the image, and about its text alone."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.evaluation.conditions import Condition
from lit_biqa.paradigms import Paradigm
from lit_biqa.readouts.base import Readout, Verdict
from lit_biqa.readouts.expected import digits, expected_ratings
from lit_biqa.rollout.engine import ChatModel, Sampling
from lit_biqa.rollout.sampler import CompletionSampler
from lit_biqa.tasks import pixels_of
from lit_biqa.text import prompts
from lit_biqa.text.leakage import Mode, leaks, mask
from lit_biqa.text.parsing import Form, before_think, read, tagged, without_answer
from lit_biqa.types import Batch, Chat, Completion, InputError, ask

Text = Literal["caption", "reasoning"]
Protocol = Literal["paper", "paper_image_first", "matched"]
Reading = Literal["mean", "expected"]

# The papers' test: T = 1, top-k 50, top-p 0.95, 1,024 tokens.
AS_TESTED = Sampling(temperature=1.0, top_k=50, top_p=0.95, budget=1024)


@dataclass(frozen=True, eq=False)
class Answered:
    """Questions of one condition about the rows of a batch, with their answers.

    Attributes:
        form: form of the ratings.
        chats: the questions; ``None`` for a row whose first answer hands no text on.
        completions: answers to each; none for ``None``.
        texts: texts that the questions hold; ``None`` where they show the image.
        start: time of `time.perf_counter` at which the answers were begun.
    """

    form: Form
    chats: Sequence[Chat | None]
    completions: Sequence[Sequence[Completion]]
    texts: Sequence[str | None] | None
    start: float


class Rated(Readout):
    """Ratings from the image and, in a second pass, from the text about it.

    Conditions are ``image``; ``text`` (the caption, or the text that the paradigm extracts),
    ``reasoning`` (caption and reasoning); and for each mask ``text-substring`` and so on. The text
    passes read the same answers that rate the image.

    Args:
        protocol: ``paper`` uses the test prompts of *Understanding Pure Textual Reasoning*, the
            same for all models, in the order of its released tests: text, then image.
            ``paper_image_first`` uses them with the image before the text, for models that were
            trained so. ``matched`` uses the prompts of the method's paradigm, with the MOS masked.
        texts: inputs of second passes: ``caption``, the text before ``<think>``; ``reasoning``, the
            caption and the reasoning.
        masks: maskings of the caption for further second passes, see `lit_biqa.text.leakage`.
        reading: ``mean`` of the ratings in the answers; ``expected``, the mean under the
            probabilities of the rating's first two digits, in the first answer.
        sampling: sampling of all answers; a temperature of 0 is greedy.
        answers: answers to each question; their ratings are averaged, and their spread is reported.
        at_once: chats that the model runs together.
        seed: seed of sampling.
        prefix: prefix of the conditions' names, for a test with several such readouts; it ends with
            a sign, as in ``masked-``. Gaps compare with the image condition of the same prefix.
        paradigm: paradigm of ``matched``; ``None`` takes the method's own.
    """

    def __init__(
        self,
        protocol: Protocol = "paper",
        texts: Sequence[Text] = ("caption",),
        masks: Sequence[Mode] = (),
        reading: Reading = "mean",
        sampling: Sampling = AS_TESTED,
        answers: int = 1,
        at_once: int = 16,
        seed: int = 0,
        prefix: str = "",
        paradigm: Paradigm | None = None,
    ) -> None:
        if answers < 1 or (masks and "caption" not in texts):
            raise InputError("Rated: answers must be 1 or more, and masks need caption in texts")
        if prefix[-1:].isalnum():
            raise InputError(f"Rated: prefix={prefix!r} must end with a sign, as in '{prefix}-'")
        self.protocol, self.texts, self.masks, self.reading = protocol, texts, masks, reading
        self.sampling, self.count = sampling, answers
        self.at_once, self.seed, self.prefix = at_once, seed, prefix
        self.paradigm = paradigm

    @property
    def conditions(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of its conditions; `image` only if the first question asks for a rating."""
        conditions = [self._condition("image")] * (self.form is not None)
        conditions += [self._condition("text")] * ("caption" in self.texts)
        conditions += [self._condition("reasoning")] * ("reasoning" in self.texts)
        conditions += [self._condition("text", mode) for mode in self.masks]
        return tuple(map(str, conditions))

    def _condition(self, source: str, mask: str = "") -> Condition:
        return Condition(source, mask, prefix=self.prefix)

    @property
    def form(self) -> Form | None:
        """Form of the rating in the first answer; ``None`` if it has none."""
        return self._paradigm().forms[0] if self.protocol == "matched" else "json"

    def _paradigm(self) -> Paradigm:
        if self.paradigm is None:
            raise InputError("Rated: protocol=matched needs a paradigm: name one, or use GRPO")
        return self.paradigm

    def check(self, model: VisionLanguageModel) -> None:
        """Refuse ``expected`` if the backbone has no token for each digit."""
        if self.reading == "expected":
            digits(model)

    def read(self, model: ChatModel, batch: Batch) -> dict[str, list[Verdict]]:
        """See `Readout`."""
        return {
            str(condition): self._verdicts(model, answered)
            for condition, answered in self.answered(model, batch)
        }

    def answered(self, model: ChatModel, batch: Batch) -> Iterator[tuple[Condition, Answered]]:
        """Answers of one condition after another; each is sampled when it is asked for."""
        rows = range(len(batch["index"]))
        keys = list(zip(batch["dataset"], batch["index"].tolist(), strict=True))
        sampler = CompletionSampler(model, keys, f"read/{self.seed}", self.sampling, self.at_once)
        chats: list[Chat | None] = [self.question(batch, row) for row in rows]
        start = time.perf_counter()
        first = sampler.sample(chats, self.count)
        if self.form is not None:
            yield self._condition("image"), Answered(self.form, chats, first, None, start)
        for condition, texts in self._handed([answers[0].text for answers in first]).items():
            asked = [None if text is None else self.second_question(text) for text in texts]
            start = time.perf_counter()
            completions = sampler.sample(asked, self.count)
            yield condition, Answered("json", asked, completions, texts, start)

    def question(self, batch: Batch, row: int) -> Chat:
        """Prompt for the rating of the image of a row."""
        if self.protocol == "matched":
            return self._paradigm().question(batch, row)
        asked = prompts.TEST_QUESTION if self.protocol == "paper" else prompts.TEST_SCORE
        return ask(asked, pixels_of(batch, row), prompts.TEST_SYSTEM)

    def _handed(self, said: Sequence[str]) -> dict[Condition, list[str | None]]:
        """Inputs of the second passes by condition."""
        captions = [self._caption(text) for text in said]
        inputs: dict[Condition, list[str | None]] = {}
        if "caption" in self.texts:
            inputs[self._condition("text")] = captions
        if "reasoning" in self.texts:
            inputs[self._condition("reasoning")] = [_reasoned(text) for text in said]
        for mode in self.masks:
            inputs[self._condition("text", mode)] = [
                None if text is None else mask(text, mode) for text in captions
            ]
        return inputs

    def _caption(self, text: str) -> str | None:
        if self.protocol == "matched" and self._paradigm().second:
            return self._paradigm().extract_caption(text)
        return (before_think(text) or "").strip() or None

    def second_question(self, text: str) -> Chat:
        """Question for a rating of a text, without the image."""
        if self.protocol == "matched" and self._paradigm().second:
            return self._paradigm().second_question(text)
        return ask(prompts.second_pass(text), system=prompts.R1_SYSTEM)

    def _verdicts(self, model: ChatModel, answered: Answered) -> list[Verdict]:
        completions, texts = answered.completions, answered.texts
        if self.reading == "expected":
            scores = expected_ratings(model, answered.chats, completions, self.at_once)
        else:
            scores = [_mean(answers, answered.form) for answers in completions]
        seconds = (time.perf_counter() - answered.start) / max(1, len(completions))
        return [
            Verdict(
                score=score,
                text=completions[row][0].text if completions[row] else "",
                status=status,
                leak=None if texts is None else leaks(texts[row] or ""),
                spread=spread,
                seconds=seconds,
            )
            for row, (score, spread, status) in enumerate(scores)
        ]


def _reasoned(text: str) -> str | None:
    """Caption and reasoning; ``None`` without reasoning."""
    thought = tagged(text, "think")
    return f"{without_answer(before_think(text) or '')}\n{thought}".strip() if thought else None


def _mean(answers: Sequence[Completion], form: Form) -> tuple[float, float, str]:
    """Mean and deviation of the ratings in some answers, and a status."""
    if not answers:
        return math.nan, math.nan, "nothing handed on"
    readings = [read(answer.text, form) for answer in answers]
    ratings = [reading.score for reading in readings if reading.score is not None]
    if not ratings:
        return math.nan, math.nan, readings[0].status
    spread = statistics.stdev(ratings) if len(ratings) > 1 else math.nan
    return statistics.fmean(ratings), spread, "ok"
