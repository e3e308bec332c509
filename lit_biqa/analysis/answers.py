"""Quality words drawn time after time from a model, in the way in which a run reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lit_biqa.analysis.csv_rows import Who, who
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.readouts.base import Readout, Verdict, seeds_of
from lit_biqa.readouts.levels import (
    FromDescription,
    GeneratedWord,
    OnePass,
    TwoPass,
    WordReadout,
    concluding,
    spoken,
)
from lit_biqa.rollout.engine import Sampling, generate
from lit_biqa.tasks import pixels_of
from lit_biqa.types import Batch, Chat, InputError, Sample, ask

WORD_BUDGET = 16  # tokens of an answer that is a word, and whatever ends its sentence

Generate = Callable[[Sequence[Chat], int, int, Sequence[int]], list[list[str]]]


@dataclass(frozen=True)
class Asked:
    """One sample and all that was answered to it.

    Attributes:
        who: the sample.
        mos: mean opinion score on [1, 5]; ``nan`` where unknown.
        sessions: the predictions of each session; a level is empty where none was named.
    """

    who: Who
    mos: float
    sessions: tuple[tuple[Verdict, ...], ...]


def suits(readout: Readout, sample: Sample) -> bool:
    """Whether a sample has what a readout reads."""
    if isinstance(readout, FromDescription):
        return bool(sample.texts)
    return sample.path is not None


def ask_sessions(
    model: VisionLanguageModel,
    readout: Readout,
    batches: Iterable[Batch],
    sessions: int,
    predictions: int,
    temperature: float,
    seed: int,
) -> list[Asked]:
    """Ask for each sample, in every session, so many predictions, all drawn independently.

    Args:
        model: with its weights.
        readout: that says what is asked; see `sampled`.
        batches: of samples; those whose image could not be read are left out.
        sessions: S.
        predictions: P, of each sample in each session.
        temperature: of the sampling.
        seed: of the sampling.
    """
    asked = []
    for batch in batches:
        drawn = sampled(model, readout, batch, sessions * predictions, temperature, seed)
        for row, verdicts in enumerate(drawn):
            if batch["status"][row] != "ok":
                continue
            starts = range(0, len(verdicts), predictions)
            parts = tuple(tuple(verdicts[at : at + predictions]) for at in starts)
            asked.append(Asked(who(batch, row), float(batch["mos"][row]), parts))
    return asked


def sampled(
    model: VisionLanguageModel,
    readout: Readout,
    batch: Batch,
    n: int,
    temperature: float,
    seed: int,
) -> list[list[Verdict]]:
    """For each row of a batch n predictions, every word on the way to them drawn.

    One-stage readouts (`GeneratedWord`, `OnePass`) draw the whole answer to the image. `TwoPass`
    draws n descriptions of the image and from each one answer to the second question. The others
    draw the words that follow the opening.

    Raises:
        InputError: if the readout names no quality word.
    """
    if not isinstance(readout, WordReadout | GeneratedWord):
        raise InputError(
            f"{type(readout).__name__} reads no quality word from what a model says: choose "
            "another of the run's readouts with --condition"
        )
    write = partial(_write, model, temperature, readout.at_once)
    seeds = seeds_of(batch, seed)
    if isinstance(readout, TwoPass):
        return _in_two_passes(write, readout, batch, n, seeds)
    if isinstance(readout, GeneratedWord | OnePass):
        texts = write(_images(readout.question, batch), n, readout.sampling.budget, seeds)
        return [[spoken(text) for text in each] for each in texts]
    chats, _ = readout.chats(model, batch)
    texts = write(chats, n, WORD_BUDGET, seeds)
    opening = readout.words.opening
    return [[spoken(f"{opening} {text}".strip()) for text in each] for each in texts]


def _in_two_passes(
    write: Generate, readout: TwoPass, batch: Batch, n: int, seeds: Sequence[int]
) -> list[list[Verdict]]:
    described = write(_images(readout.question, batch), n, readout.sampling.budget, seeds)
    descriptions = [text for each in described for text in each]
    chats = [concluding(text, readout.words) for text in descriptions]
    again = [seed * n + number + 1 for seed in seeds for number in range(n)]
    words = [each[0] for each in write(chats, 1, WORD_BUDGET, again)]
    verdicts = []
    for description, word in zip(descriptions, words, strict=True):
        verdict = spoken(f"{readout.words.opening} {word}".strip())
        verdicts.append(replace(verdict, text=f"{description} {verdict.text}"))
    return [verdicts[at : at + n] for at in range(0, len(verdicts), n)]


def _write(
    model: VisionLanguageModel,
    temperature: float,
    at_once: int,
    chats: Sequence[Chat],
    n: int,
    budget: int,
    seeds: Sequence[int],
) -> list[list[str]]:
    """Texts of n completions of each chat."""
    sampling = Sampling(temperature=temperature, budget=budget)
    found = generate(model, chats, n, sampling, seeds, max(1, at_once // n))
    return [[completion.text.strip() for completion in each] for each in found]


def _images(question: str, batch: Batch) -> list[Chat]:
    return [ask(question, pixels_of(batch, row)) for row in range(len(batch["index"]))]
