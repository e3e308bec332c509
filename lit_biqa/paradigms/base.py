"""The base of paradigms: prompts of one or two passes, the caption between them, reward slots."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lit_biqa.objectives.policy import Scale, advantages
from lit_biqa.rewards import SecondPass, Slot, total
from lit_biqa.text import prompts
from lit_biqa.text.parsing import Form
from lit_biqa.types import IMAGE, Batch, Chat, Completion, Group, InputError, Sample, ask

RewardCredit = Literal["shared", "masked"]

Sampler = Callable[[Sequence[Chat | None], int], Sequence[Sequence[Completion]]]
"""Samples n completions of each chat: ``(chats, n) -> completions``; none for a ``None``."""

_NEAR = 5e-3  # half of the last of two decimals
_DECIMAL = re.compile(r"(?<!\d)\d+\.\d+")  # a long number is read once, not from each digit


@dataclass(frozen=True, eq=False)
class Pass:
    """Prompts and completions of one pass.

    Attributes:
        chats: prompts in the order of the images, the same number for each; ``None`` if the first
            pass gave no caption.
        completions: completions of each chat; none for a ``None``.
    """

    chats: Sequence[Chat | None]
    completions: Sequence[Sequence[Completion]]


@dataclass(frozen=True, eq=False)
class Rollout:
    """Completions of all passes over the images of a batch.

    Attributes:
        passes: one or two.
        groups: P groups of G completions, to be rewarded.
        handed: captions of the P * G completions of the first pass, ``None`` where there is none;
            empty without a second pass.
    """

    passes: tuple[Pass, ...]
    groups: list[Group]
    handed: list[str | None]


@dataclass(frozen=True, eq=False)
class GroupRewards:
    """Rewards and advantages of P groups.

    Attributes:
        total: rewards ``[P, G]``.
        parts: rewards of each slot ``[P, G]``, without weights.
        advantages: for each pass ``[R, n, 2]``: of each completion's reasoning, and of its rating.
    """

    total: Tensor
    parts: dict[str, Tensor]
    advantages: tuple[Tensor, ...]

    def of(self, images: Sequence[int]) -> GroupRewards:
        """Rewards and advantages of some of the P images."""
        chosen = list(images)
        return GroupRewards(
            self.total[chosen],
            {name: part[chosen] for name, part in self.parts.items()},
            tuple(
                tensor.reshape(len(self.total), -1, *tensor.shape[1:])[chosen].flatten(0, 1)
                for tensor in self.advantages
            ),
        )


class Paradigm(ABC):
    """Prompts of one or two passes over an image, and rewards of their completions.

    The first pass sees the image. A second pass sees only a text from the first. A subclass gives
    the first prompt (`first`), the text between the passes (`extract_caption`) and the
    reward slots; slots of the second pass hold a `SecondPass`.

    The G completions of one image are a group. If M is at least 2, the M completions of one caption
    are a group too, rewarded by the slots of the second pass; if M is 1, the completion has the
    advantage of the first-pass completion that its caption comes from.

    Args:
        slots: rewards by name.
        group: G, completions of each image.
        second: M, completions of each caption; 0 for no second pass.
        update_pass1: true if the first pass contributes to the loss.
        update_pass2: true if the second pass contributes to the loss.
        reward_credit: for the first pass: ``shared`` gives all tokens of a completion one
            advantage; ``masked`` gives the tokens from ``<answer>`` on the advantage of the slots
            that credit the rating, and earlier tokens that of the slots that credit the reasoning.

    Raises:
        InputError: for a group of one, or if no pass contributes to the loss.
    """

    def __init__(
        self,
        slots: Mapping[str, Slot],
        group: int,
        second: int = 0,
        update_pass1: bool = True,
        update_pass2: bool = False,
        reward_credit: RewardCredit = "shared",
    ) -> None:
        self.slots, self.group, self.second = dict(slots), group, second
        self.updates = (update_pass1, update_pass2)
        self.reward_credit = reward_credit
        self._check()

    def _check(self) -> None:
        name = type(self).__name__
        if self.group < 2:
            raise InputError(
                f"{name}: group={self.group}: a completion is compared with others of its image; "
                "give 2 or more"
            )
        if self.second < 0 or not any(self.updates) or (self.updates[1] and not self.second):
            raise InputError(
                f"{name}: second={self.second}, update_pass1={self.updates[0]}, "
                f"update_pass2={self.updates[1]}: train at least one pass that exists"
            )
        if self.updates[1] and self.second > 1 and not self.slots_of_second:
            raise InputError(
                f"{name}: no slot rewards the second pass, which is to be trained in groups of "
                f"{self.second}: make one a SecondPass"
            )
        _ = self.forms  # refuses rewards that do not agree

    @property
    def slots_of_second(self) -> dict[str, Slot]:
        """Reward slots of each completion of the second pass."""
        return {
            name: replace(slot, reward=slot.reward.reward)
            for name, slot in self.slots.items()
            if isinstance(slot.reward, SecondPass)
        }

    @property
    def forms(self) -> tuple[Form | None, ...]:
        """Form of the ratings in each pass; ``None`` if no slot reads ratings."""
        first = {n: s for n, s in self.slots.items() if n not in self.slots_of_second}
        both = (first, self.slots_of_second) if self.second else (first,)
        return tuple(_form(slots) for slots in both)

    @abstractmethod
    def first(self, batch: Batch, row: int, masked: bool = False) -> Chat:
        """Prompt about the image of a row.

        Args:
            batch: the images and their labels.
            row: row of the batch.
            masked: true to mask the MOS in a prompt that holds it.
        """

    def extract_caption(self, text: str) -> str | None:
        """Part of a completion that the second pass sees; ``None`` if there is none."""
        return None

    def second_prompt(self, text: str) -> Chat:
        """Prompt of the second pass: a text, without the image.

        Source: *Understanding Pure Textual Reasoning*; all its paradigms share this prompt.
        """
        return ask(prompts.second_pass(text), system=prompts.R1_SYSTEM)

    def suited(self, samples: Sequence[Sample]) -> list[Sample]:
        """Samples that the paradigm can train on."""
        return [sample for sample in samples if sample.mos == sample.mos]

    def question(self, batch: Batch, row: int) -> Chat:
        """Prompt for a score: with the MOS masked, and checked not to hold it.

        Raises:
            InputError: if the prompt holds the MOS.
        """
        chat, mos = self.first(batch, row, masked=True), float(batch["mos"][row])
        words = " ".join(message.text for message in chat.messages) + chat.opening
        if any(abs(float(number) - mos) < _NEAR for number in _DECIMAL.findall(words)):
            raise InputError(
                f"{type(self).__name__}: the question about {batch['name'][row]} of "
                f"{batch['dataset'][row]} holds its MOS, {mos:g}: mask it when `masked` is true"
            )
        return chat

    def second_question(self, text: str) -> Chat:
        """`second_prompt`, checked to hold the text and no image.

        Raises:
            InputError: if the text is not in the question, or an image is.
        """
        chat, name = self.second_prompt(text), type(self).__name__
        if chat.pixels is not None:
            raise InputError(f"{name}: the second pass sees text only; leave the image out")
        told = text.replace(IMAGE, "").strip()
        if not any(told in message.text for message in chat.messages):
            raise InputError(f"{name}: the prompt of the second pass lacks the text of the first")
        return chat

    def run(self, batch: Batch, sample: Sampler) -> Rollout:
        """Sample the completions of all passes.

        Args:
            batch: P images.
            sample: function that samples n completions of each prompt.

        Raises:
            InputError: see `second_question`.
        """
        rows = range(len(batch["index"]))
        chats: list[Chat | None] = [self.first(batch, row) for row in rows]
        completions = sample(chats, self.group)
        groups = [group_of(batch["samples"][row], completions[row]) for row in rows]
        if not self.second:
            return Rollout((Pass(chats, completions),), groups, [])
        handed = [self.extract_caption(one.text) for answers in completions for one in answers]
        asked = [None if text is None else self.second_question(text) for text in handed]
        answered = sample(asked, self.second)
        for row, group in enumerate(groups):
            second = answered[row * self.group : (row + 1) * self.group]
            groups[row] = replace(group, second=tuple(map(tuple, second)))
        return Rollout((Pass(chats, completions), Pass(asked, answered)), groups, handed)

    def reward(self, groups: Sequence[Group], scale: Scale = "group") -> GroupRewards:
        """Rewards and advantages of the groups of a step, of all ranks.

        Args:
            groups: completions to reward.
            scale: scale of advantages, see `lit_biqa.objectives.policy.advantages`.
        """
        rewards, parts = total(self.slots, groups)
        first = torch.stack([self._credited(part, parts, scale) for part in PARTS], 2)
        if not self.second:
            return GroupRewards(rewards, parts, (first,))
        if self.second == 1:
            second = advantages(rewards, scale).reshape(-1, 1)
        else:
            second = self._of_second(groups, scale)
        return GroupRewards(rewards, parts, (first, second[..., None].expand(-1, -1, 2)))

    def _credited(self, part: str, parts: Mapping[str, Tensor], scale: Scale) -> Tensor:
        """Advantages ``[P, G]`` of the slots that credit the reasoning, or the rating."""
        weighted = [
            slot.weight * parts[name]
            for name, slot in self.slots.items()
            if self.reward_credit == "shared" or slot.credit in ("both", part)
        ]
        none = torch.zeros_like(next(iter(parts.values())))
        return advantages(torch.stack([none, *weighted]).sum(0), scale)

    def _of_second(self, groups: Sequence[Group], scale: Scale) -> Tensor:
        """Advantages ``[P * G, M]``; 0 without a caption."""
        captions = [
            replace(g, completions=answers, second=()) for g in groups for answers in g.second
        ]
        asked = [i for i, group in enumerate(captions) if group.completions]
        credited = torch.zeros(len(captions), self.second)
        if asked and self.slots_of_second:
            rewards, _ = total(self.slots_of_second, [captions[i] for i in asked])
            credited[asked] = advantages(rewards, scale)
        return credited


PARTS = ("reasoning", "rating")


def _form(slots: Mapping[str, Slot]) -> Form | None:
    forms = {name: getattr(slot.reward, "form", None) for name, slot in slots.items()}
    named = {name: form for name, form in forms.items() if form is not None}
    if len(set(named.values())) > 1:
        told = ", ".join(f"{name} reads {form}" for name, form in named.items())
        raise InputError(
            f"rewards of one answer read its rating in different forms ({told}): "
            "give them one `form`"
        )
    return next(iter(named.values()), None)


def group_of(sample: Sample, completions: Sequence[Completion]) -> Group:
    """Group of completions about the image of a sample, with its labels."""
    return Group(
        mos=sample.mos,
        std=sample.std,
        dataset=sample.dataset,
        index=sample.index,
        completions=tuple(completions),
        references=sample.texts,
        degradation=sample.degradation,
    )
