"""Repeated sampling of level words from a model, through the readout of a run."""

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

WORD_BUDGET = 16  # tokens of an answer of one word, with the end of its sentence

Generate = Callable[[Sequence[Chat], int, int, Sequence[int]], list[list[str]]]


@dataclass(frozen=True)
class Asked:
    """One sample with all sampled predictions.

    Attributes:
        who: the sample.
        mos: mean opinion score on [1, 5]; ``nan`` if unknown.
        sessions: predictions of each session; a level is empty if the answer names none.
    """

    who: Who
    mos: float
    sessions: tuple[tuple[Verdict, ...], ...]


def suits(readout: Readout, sample: Sample) -> bool:
    """True if a sample has the input of a readout: a text or an image."""
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
    """Sample predictions for each sample: P in each of S sessions, all independent.

    Args:
        model: model with its weights.
        readout: readout that asks, see `sampled`.
        batches: batches of samples; samples with an unreadable image are left out.
        sessions: S.
        predictions: P, for each sample in each session.
        temperature: temperature of sampling.
        seed: seed of sampling.
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
    """Sample n predictions for each row of a batch, including every word that leads to them.

    One-stage readouts (`GeneratedWord`, `OnePass`) sample the whole answer to the image. `TwoPass`
    samples n descriptions of the image, and one answer to the second question for each. The other
    readouts sample the words after the opening.

    Raises:
        InputError: if the readout names no quality word.
    """
    if not isinstance(readout, WordReadout | GeneratedWord):
        raise InputError(
            f"{type(readout).__name__} reads no quality word from the model's answer: choose "
            "another of the run's readouts with --condition"
        )
    write = partial(_write, model, temperature, readout.at_once)
    seeds = seeds_of(batch, seed)
    if isinstance(readout, TwoPass):
        return _in_two_passes(write, readout, batch, n, seeds)
    if isinstance(readout, GeneratedWord | OnePass):
        texts = write(_images(readout.question, batch), n, readout.sampling.budget, seeds)
        return [[spoken(text) for text in group] for group in texts]
    chats, _ = readout.chats(model, batch)
    texts = write(chats, n, WORD_BUDGET, seeds)
    opening = readout.words.opening
    return [[spoken(text, opening) for text in group] for group in texts]


def _in_two_passes(
    write: Generate, readout: TwoPass, batch: Batch, n: int, seeds: Sequence[int]
) -> list[list[Verdict]]:
    described = write(_images(readout.question, batch), n, readout.sampling.budget, seeds)
    descriptions = [text for group in described for text in group]
    chats = [concluding(text, readout.words) for text in descriptions]
    second_seeds = [seed * n + number + 1 for seed in seeds for number in range(n)]
    words = [group[0] for group in write(chats, 1, WORD_BUDGET, second_seeds)]
    verdicts = []
    for description, word in zip(descriptions, words, strict=True):
        verdict = spoken(word, readout.words.opening)
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
    completions = generate(model, chats, n, sampling, seeds, max(1, at_once // n))
    return [[completion.text.strip() for completion in group] for group in completions]


def _images(question: str, batch: Batch) -> list[Chat]:
    return [ask(question, pixels_of(batch, row)) for row in range(len(batch["index"]))]
