"""Rewards for what a model said: each takes groups and gives every completion a number.

A reward is a frozen object ``(groups) -> [P, G]``: P images, G completions of each. It sees all
groups of a step, so that images can be ranked against each other. What cannot be parsed earns 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lit_biqa.text.parsing import (
    REASONED,
    Form,
    leniently_formatted,
    read,
    read_degradation,
    strictly_formatted,
)
from lit_biqa.text.rouge import FUNCTION_WORDS, rouge1
from lit_biqa.types import Completion, Group, InputError

_TINY = 1e-6  # as in VisualQuality-R1's code


class Reward(ABC):
    """A number for each completion."""

    @abstractmethod
    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """Rewards ``[P, G]`` of P groups of G completions each."""


@dataclass(frozen=True)
class Slot:
    """A reward and its place in the total.

    Attributes:
        reward: that is given.
        weight: in the total.
        credit: which tokens have earned it, where they are told apart: those of the reasoning,
            those of the rating, or both.
    """

    reward: Reward
    weight: float = 1.0
    credit: Literal["reasoning", "rating", "both"] = "both"


def total(slots: Mapping[str, Slot], groups: Sequence[Group]) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of rewards, and each as it is, to be logged.

    >>> slots = {"score": Slot(StepScore()), "format": Slot(Format(strict=False), 0.5)}
    >>> said = Completion((), '<think>sharp</think><answer>{"rating": 4.1}</answer>')
    >>> total(slots, [Group(4.0, 0.5, "koniq10k", 0, (said, said))])[0]
    tensor([[1.5000, 1.5000]])

    Args:
        slots: rewards by name.
        groups: P groups of G completions each.

    Returns:
        The total ``[P, G]`` and the parts by name, ``[P, G]`` each and without their weights.

    Raises:
        InputError: if a reward is not finite; names the slot.
    """
    parts = {name: slot.reward(groups) for name, slot in slots.items()}
    for name, part in parts.items():
        if not part.isfinite().all():
            raise InputError(
                f"reward {name} is not finite for {int((~part.isfinite()).sum())} of "
                f"{part.numel()} completions: one that cannot be judged earns 0"
            )
    weighted = [slot.weight * parts[name] for name, slot in slots.items()]
    return torch.stack(weighted).sum(0), parts


def _each(groups: Sequence[Group], value: Callable[[Group, Completion], float]) -> Tensor:
    rows = [[float(value(group, said)) for said in group.completions] for group in groups]
    return torch.tensor(rows, dtype=torch.float32)


def _distance(group: Group, said: Completion, form: Form) -> float:
    """Of the rating from the MOS; infinite where either is missing."""
    score = read(said.text, form).score
    return math.inf if score is None or math.isnan(group.mos) else abs(score - group.mos)


@dataclass(frozen=True)
class StepScore(Reward):
    """1 for a rating nearer to the MOS than the tolerance, else 0 (Q-Insight).

    >>> said = Completion((), '<answer>{"rating": 4.1}</answer>')
    >>> StepScore()([Group(4.0, 0.5, "koniq10k", 0, (said, said))])
    tensor([[1., 1.]])

    Attributes:
        tolerance: on the scale of MOS; the distance itself no longer earns.
        form: how the rating is written, see `read`.
    """

    tolerance: float = 0.35
    form: Form = "json"

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`."""
        return _each(groups, lambda g, said: _distance(g, said, self.form) < self.tolerance)


@dataclass(frozen=True)
class CosineScore(Reward):
    """``(1 + cos(pi x / t)) / 2`` for a rating x from the MOS, nearer than the tolerance t, else 0.

    >>> said = Completion((), '<answer>{"rating": 4.0}</answer>')
    >>> CosineScore(tolerance=1.0)([Group(4.5, 0.5, "koniq10k", 0, (said, said))])
    tensor([[0.5000, 0.5000]])

    Source: *Understanding Pure Textual Reasoning*, equation 1; t = 0.35 in its code.

    Attributes:
        tolerance: t, on the scale of MOS.
        form: how the rating is written, see `read`.
    """

    tolerance: float = 0.35
    form: Form = "json"

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`."""
        return _each(groups, self._value)

    def _value(self, group: Group, said: Completion) -> float:
        distance = _distance(group, said, self.form)
        if distance >= self.tolerance:
            return 0.0
        return 0.5 * (1 + math.cos(math.pi * distance / self.tolerance))


@dataclass(frozen=True)
class Format(Reward):
    """1 for a completion that consists of its tags alone, else 0.

    >>> said = Completion((), "<think>sharp</think> <answer>4.1</answer>")
    >>> Format(strict=False)([Group(4.0, 0.5, "koniq10k", 0, (said, said))])
    tensor([[1., 1.]])

    Attributes:
        strict: Q-Insight's format, see `strictly_formatted`; else VisualQuality-R1's, see
            `leniently_formatted`.
        tags: that a completion must consist of, in their order.
    """

    strict: bool = True
    tags: tuple[str, ...] = REASONED

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`."""
        formatted = strictly_formatted if self.strict else leniently_formatted
        return _each(groups, lambda _, said: formatted(said.text, self.tags))


@dataclass(frozen=True)
class SecondPass(Reward):
    """Another reward, of what was said in the second pass, averaged over its M completions.

    With its default this is the self-consistency reward. A completion that handed nothing on
    earns 0.

    >>> said = Completion((), '<answer>{"rating": 4.0}</answer>')
    >>> seen = (Completion((), "a sharp picture"), Completion((), ""))
    >>> SecondPass()([Group(4.0, 0.5, "koniq10k", 0, seen, second=((said, said), ()))])
    tensor([[1., 0.]])

    Source: *Understanding Pure Textual Reasoning*, equations 2 and 4.

    Attributes:
        reward: of each completion by itself, such as a score or a format.
    """

    reward: Reward = CosineScore()

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`.

        Raises:
            ValueError: if a group has no second pass.
        """
        return torch.stack([self._of_group(group) for group in groups])

    def _of_group(self, group: Group) -> Tensor:
        if len(group.second) != len(group.completions):
            raise ValueError(f"a second pass of {len(group.second)}, not {len(group.completions)}")
        passes = (replace(group, completions=said, second=()) for said in group.second)
        nothing = torch.zeros(())
        means = [self.reward([one]).mean() if one.completions else nothing for one in passes]
        return torch.stack(means)


@dataclass(frozen=True)
class Rouge1(Reward):
    """ROUGE-1 of caption and reasoning with what people wrote, the best over people.

    >>> said = Completion((), "A dog. <think>It is sharp.</think>")
    >>> Rouge1()([Group(4.0, 0.5, "own", 0, (said, said), references=("A sharp dog.",))])
    tensor([[0.7500, 0.7500]])

    Source: *Guiding Perception-Reasoning Closer to Human*, which rewards ROUGE-1; the details, such
    as that digits do not count, are ours.

    Attributes:
        share: ``precision``, ``recall`` or ``f``, see `rouge1`.
        function_words: whether words such as "the" count, see `FUNCTION_WORDS`.
    """

    share: Literal["precision", "recall", "f"] = "f"
    function_words: bool = True

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`; 0 for images that nobody wrote about."""
        return _each(groups, self._value)

    def _value(self, group: Group, said: Completion) -> float:
        reading = read(said.text)
        text = f"{reading.caption} {reading.reasoning}"
        left_out = () if self.function_words else FUNCTION_WORDS
        overlaps = (rouge1(text, reference, left_out) for reference in group.references)
        return max((float(getattr(overlap, self.share)) for overlap in overlaps), default=0.0)


@dataclass(frozen=True)
class Degradation(Reward):
    """For naming the distortion, and, if that is right, for its severity (Q-Insight).

    >>> answer = '{"distortion_class": "blur", "severity": "slight"}'
    >>> said = Completion((), f"<answer>{answer}</answer>")
    >>> Degradation()([Group(math.nan, 0, "kadis", 0, (said,), degradation=("blur", "serious"))])
    tensor([[0.2500]])

    Attributes:
        kind: for the right class.
        severity: on top, for the right severity of the right class.
    """

    kind: float = 0.25
    severity: float = 0.75

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`; 0 for images whose task is another."""
        return _each(groups, self._value)

    def _value(self, group: Group, said: Completion) -> float:
        found, true = read_degradation(said.text), group.degradation
        if found is None or true is None or found[0] != true[0]:
            return 0.0
        return self.kind + self.severity * (found[1] == true[1])


@dataclass(frozen=True)
class PairwiseRanking(Reward):
    """Fidelity of the order of images to that of their MOS, against all others of the data set.

    Each rating of an image is compared with the mean rating of every other image of the same data
    set in the step. An image that has no other to be compared with earns 0, and so does a
    completion without a rating, which has no part in its image's mean and variance either.

    >>> low, high = (Completion((), f"<answer>{score}</answer>") for score in (2, 4))
    >>> better = Group(4.2, 0.5, "koniq10k", 0, (high, low))
    >>> worse = Group(1.7, 0.5, "koniq10k", 1, (low, low))
    >>> PairwiseRanking()([better, worse])
    tensor([[0.9609, 0.7081],
            [0.8729, 0.8729]])

    Source: VisualQuality-R1 (Wu et al., 2025), equations 1 to 3.

    Attributes:
        form: how the rating is written, see `read`.
    """

    form: Form = "number"

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`."""
        rows = [[read(said.text, self.form).score for said in g.completions] for g in groups]
        scores = torch.tensor(
            [[math.nan if s is None else s for s in row] for row in rows]
        ).double()
        mos = torch.tensor([group.mos for group in groups], dtype=torch.float64)
        mean, variance = _moments(scores)
        deviation = (variance[:, None] + variance + _TINY).sqrt()
        # [P, G, P]: image, completion, other image
        p = torch.special.ndtr((scores[..., None] - mean) / deviation[:, None])
        g = ((mos[:, None] - mos).sign() + 1)[:, None] / 2
        agreement = (p * g + _TINY).sqrt() + ((1 - p) * (1 - g) + _TINY).sqrt()
        return _mean_over(agreement, _comparable(groups)).nan_to_num(0.0).float()


def _moments(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of the ratings of each image, over those that there are."""
    count = scores.isfinite().sum(1)
    mean = scores.nanmean(1)
    squares = (scores - mean[:, None]).square().nansum(1)
    return mean, squares / (count - 1).clamp(min=1)


def _comparable(groups: Sequence[Group]) -> Tensor:
    """Which other images, their MOS being known, each is compared with, ``[P, P]``."""
    sets = [group.dataset for group in groups]
    same = torch.tensor([[one == other for other in sets] for one in sets])
    known = torch.tensor([not math.isnan(group.mos) for group in groups])
    return same & known[:, None] & known & ~torch.eye(len(sets), dtype=torch.bool)


def _mean_over(values: Tensor, wanted: Tensor) -> Tensor:
    """Mean over the last axis of ``[P, G, P]`` where ``wanted [P, P]``; not over what is nan."""
    return values.masked_fill(~wanted[:, None], math.nan).nanmean(-1)
