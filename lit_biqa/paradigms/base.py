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
        chats: prompts in the order of the images, as many for each; ``None`` where the first pass
            gave no caption.
        completions: of each chat; none for a ``None``.
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
        parts: of each slot ``[P, G]``, without weights.
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
                each.reshape(len(self.total), -1, *each.shape[1:])[chosen].flatten(0, 1)
                for each in self.advantages
            ),
        )


class Paradigm(ABC):
    """Prompts of one or two passes over an image, and rewards of their completions.

    The first pass sees the image. A second pass sees only a text that the first has written. A
    subclass gives the first prompt (:meth:`first`), the text between the passes
    (:meth:`extract_caption`) and the reward slots; slots of the second pass hold a `SecondPass`.

    The G completions of one image are a group. The M completions of one caption are a group of
    their own where M is at least 2, rewarded by the slots of the second pass; where M is 1, the
    completion has the advantage of the first-pass completion that its caption comes from.

    Args:
        slots: rewards by name.
        group: G, completions of each image.
        second: M, completions of each caption; 0 for no second pass.
        update_pass1: whether the first pass contributes to the loss.
        update_pass2: whether the second pass contributes to the loss.
        reward_credit: ``shared`` gives all tokens of a completion one advantage; ``masked`` gives
            those from ``<answer>`` on that of the slots which credit the rating, and those before
            it that of the slots which credit the reasoning. It concerns the first pass.

    Raises:
        InputError: for a group of one, or if nothing is learned from.
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
                f"update_pass2={self.updates[1]}: name a pass that exists to be learned from"
            )
        if self.updates[1] and self.second > 1 and not self.slots_of_second:
            raise InputError(
                f"{name}: no slot rewards the second pass, and it is to be learned from in groups "
                f"of {self.second}: make one a SecondPass"
            )

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
        """Form of the ratings in each pass; ``None`` where ratings are not read."""
        first = {n: s for n, s in self.slots.items() if n not in self.slots_of_second}
        both = (first, self.slots_of_second) if self.second else (first,)
        return tuple(_form(slots) for slots in both)

    @abstractmethod
    def first(self, batch: Batch, row: int, masked: bool = False) -> Chat:
        """The prompt about the image of a row.

        Args:
            batch: the images and what is known of them.
            row: of the batch.
            masked: whether the prompt masks the MOS, where it holds it.
        """

    def extract_caption(self, text: str) -> str | None:
        """The part of a completion that the second pass sees; ``None`` where there is none."""
        return None

    def second_prompt(self, text: str) -> Chat:
        """The prompt of the second pass: a text, without the image.

        Source: *Understanding Pure Textual Reasoning*; all its paradigms share this prompt.
        """
        return ask(prompts.second_pass(text), system=prompts.R1_SYSTEM)

    def suited(self, samples: Sequence[Sample], beside: Sequence[Sample] = ()) -> list[Sample]:
        """Samples that the paradigm can train on, with the references of their rewards.

        Args:
            samples: to choose from.
            beside: samples of other parts, which a file may name too.
        """
        return [sample for sample in samples if sample.mos == sample.mos]

    def question(self, batch: Batch, row: int) -> Chat:
        """What is asked where a score is wanted: the MOS masked, and none of it in the chat.

        Raises:
            InputError: if it is there nevertheless.
        """
        chat, mos = self.first(batch, row, masked=True), float(batch["mos"][row])
        words = " ".join(message.text for message in chat.messages) + chat.opening
        if any(abs(float(number) - mos) < _NEAR for number in _DECIMAL.findall(words)):
            raise InputError(
                f"{type(self).__name__}: the question about {batch['name'][row]} of "
                f"{batch['dataset'][row]} tells its MOS, {mos:g}: mask it where `masked` is true"
            )
        return chat

    def second_question(self, text: str) -> Chat:
        """:meth:`second_prompt`, held to what a second pass is.

        Raises:
            InputError: if the text is not in the question, or an image is.
        """
        chat, name = self.second_prompt(text), type(self).__name__
        if chat.pixels is not None:
            raise InputError(f"{name}: the second pass sees text alone; leave the image out")
        told = text.replace(IMAGE, "").strip()
        if not any(told in message.text for message in chat.messages):
            raise InputError(f"{name}: the second pass is not told what the first has written")
        return chat

    def run(self, batch: Batch, sample: Sampler) -> Rollout:
        """Sample the completions of all passes.

        Args:
            batch: of P images.
            sample: n completions of each prompt.

        Raises:
            InputError: see :meth:`second_question`.
        """
        rows = range(len(batch["index"]))
        chats: list[Chat | None] = [self.first(batch, row) for row in rows]
        said = sample(chats, self.group)
        groups = [_group(batch["samples"][row], said[row]) for row in rows]
        if not self.second:
            return Rollout((Pass(chats, said),), groups, [])
        handed = [self.extract_caption(one.text) for answers in said for one in answers]
        asked = [None if text is None else self.second_question(text) for text in handed]
        answered = sample(asked, self.second)
        for row, group in enumerate(groups):
            own = answered[row * self.group : (row + 1) * self.group]
            groups[row] = replace(group, second=tuple(map(tuple, own)))
        return Rollout((Pass(chats, said), Pass(asked, answered)), groups, handed)

    def reward(self, groups: Sequence[Group], scale: Scale = "group") -> GroupRewards:
        """Rewards and advantages of the groups of a step, of all ranks.

        Args:
            groups: completions to reward.
            scale: of advantages, see `lit_biqa.objectives.policy.advantages`.
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
        """Advantages ``[P * G, M]``; 0 where nothing was handed on."""
        each = [replace(g, completions=said, second=()) for g in groups for said in g.second]
        asked = [i for i, group in enumerate(each) if group.completions]
        found = torch.zeros(len(each), self.second)
        if asked and self.slots_of_second:
            earned, _ = total(self.slots_of_second, [each[i] for i in asked])
            found[asked] = advantages(earned, scale)
        return found


PARTS = ("reasoning", "rating")


def _form(slots: Mapping[str, Slot]) -> Form | None:
    forms = (getattr(slot.reward, "form", None) for slot in slots.values())
    return next((form for form in forms if form is not None), None)


def _group(sample: Sample, completions: Sequence[Completion]) -> Group:
    return Group(
        mos=sample.mos,
        std=sample.std,
        dataset=sample.dataset,
        index=sample.index,
        completions=tuple(completions),
        references=sample.texts,
        degradation=sample.degradation,
    )
