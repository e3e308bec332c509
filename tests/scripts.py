"""Batches, scripted completions and a reward that random models can earn, for tests of GRPO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_biqa.paradigms import Paradigm, Rollout, Sampler
from lit_biqa.rewards import Reward, SecondPass, Slot
from lit_biqa.tasks import pixels_of
from lit_biqa.types import Batch, Chat, Completion, Group, Sample, Samples, ask


def batch(mos: Sequence[float], pixels: Sequence[Tensor | None], text: str = "") -> Batch:
    """Images of the data set ``own``, their rows counted from 10."""
    count, texts = len(mos), (text,) * bool(text)
    return Batch(
        pixels=list(pixels),
        samples=Samples(
            Sample("own", "all", 10 + row, f"{row}.png", None, each, 0.5, texts=texts)
            for row, each in enumerate(mos)
        ),
        mos=torch.tensor(mos),
        std=torch.full((count,), 0.5),
        index=torch.arange(10, 10 + count),
        dataset=["own"] * count,
        split=["all"] * count,
        name=[f"{row}.png" for row in range(count)],
        text=[text] * count,
        prompt=[()] * count,
        conclusion=[""] * count,
        status=["ok"] * count,
    )


def answer(rating: object, think: str = "sharp") -> str:
    """A strictly formatted one."""
    return f'<think>\n{think}\n</think>\n<answer>\n{{"rating": {rating}}}\n</answer>'


def described(caption: str, rating: object) -> str:
    """A strictly formatted one that begins with a caption."""
    return f"<caption>\n{caption}\n</caption>\n{answer(rating)}"


class Script:
    """Says what it was given, pass by pass, and remembers what it was asked.

    Args:
        passes: for each pass the texts of each chat; none where nothing must be asked.
    """

    def __init__(self, *passes: Sequence[Sequence[str]]) -> None:
        self.passes = list(passes)
        self.asked: list[Sequence[Chat | None]] = []

    def sample(self, chats: Sequence[Chat | None], n: int) -> list[list[Completion]]:
        """See `lit_biqa.paradigms.Sampler`."""
        texts = self.passes[len(self.asked)]
        self.asked.append(chats)
        assert [len(some) for some in texts] == [n if chat else 0 for chat in chats]
        return [[self.completion(text) for text in some] for some in texts]

    def completion(self, text: str) -> Completion:
        """Without tokens."""
        return Completion((), text)


@dataclass(frozen=True)
class Vowels(Reward):
    """The share of vowels among the characters; a random model earns some."""

    def __call__(self, groups: Sequence[Group]) -> Tensor:
        """See `Reward`."""
        return torch.tensor([[_share(said.text) for said in g.completions] for g in groups])


def _share(text: str) -> float:
    return sum(text.lower().count(vowel) for vowel in "aeiou") / max(1, len(text))


class Plain(Paradigm):
    """Two passes that ask little, of a model that knows no tags; its vowels are rewarded.

    Args:
        score: the reward of the first pass.
        format: that of the second.
        group: G.
        second: M.
        update_pass1: see `Paradigm`.
        update_pass2: likewise.
    """

    def __init__(
        self,
        score: Slot = Slot(Vowels()),
        format: Slot = Slot(SecondPass(Vowels())),
        group: int = 2,
        second: int = 2,
        update_pass1: bool = True,
        update_pass2: bool = True,
    ) -> None:
        slots = {"score": score, "format": format}
        super().__init__(slots, group, second, update_pass1, update_pass2)

    def first(self, batch: Batch, row: int, masked: bool = False) -> Chat:
        """See `Paradigm`."""
        return ask("Describe.", pixels_of(batch, row))

    def extract_caption(self, text: str) -> str | None:
        """See `Paradigm`."""
        return text.strip() or None


class Recited(Plain):
    """`Plain` with completions that are fixed by image and pass, whatever the model would say."""

    def run(self, batch: Batch, sample: Sampler) -> Rollout:
        """See `Paradigm`."""
        images = batch["index"].tolist()
        passes = iter((1, 2))

        def recite(chats: Sequence[Chat | None], n: int) -> list[list[Completion]]:
            number, each = next(passes), len(chats) // len(images)
            keys = [(images[row // each], number, row % each) for row in range(len(chats))]
            return [[told(*key, place) for place in range(n)] for key in keys]

        return super().run(batch, recite)


def told(image: int, number: int, chat: int, place: int) -> Completion:
    """Eight tokens, none of them special, and a text of as many letters."""
    generator = torch.Generator().manual_seed(1000 * image + 100 * number + 10 * chat + place)
    ids = torch.randint(10, 250, (8,), generator=generator).tolist()
    return Completion(tuple(ids), "".join(chr(ord("a") + token % 26) for token in ids), False)
