"""DeQA-Score's objective: soft labels over level words, and fidelity of image pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lit_biqa.backbones.inputs import IGNORED, Inputs
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.distributed import all_gather, gather_rows, share, world
from lit_biqa.objectives.likelihood import (
    level_divergence,
    level_probabilities,
    pairwise_fidelity,
    smoothed_likelihood,
)
from lit_biqa.readouts.words import Words
from lit_biqa.tasks import Example
from lit_biqa.text.levels import Density, expected_score, soft_labels, two_point_labels
from lit_biqa.types import Batch, InputError

_IMAGES = 2  # images of a pair


class SoftLevels:
    """Fidelity of image pairs, plus soft labels for the level and likelihood of the other words.

    ``rank * fidelity + 2 * level * (cross-entropy of all words but the level + divergence)``, all
    three means over the batch of all ranks. Each image is paired with the next image of its data
    set. The factor 2 stands for the images of a pair: DeQA-Score adds the mean over the first
    images and the mean over the second, and here each image is once the first and once the second.

    Args:
        rank: weight of the fidelity; 0 leaves it out.
        level: weight of likelihood and divergence, for each image of a pair.
        density: form of the soft labels from MOS and deviation; images without a deviation get
            two-point labels.

    Source: DeQA-Score (You et al., 2025), equations 6 to 10, and its code for pairs.
    """

    def __init__(self, rank: float = 1.0, level: float = 0.05, density: Density = "pdf") -> None:
        self.rank, self.level, self.density = rank, level, density
        self.words = Words()

    def __call__(
        self,
        model: VisionLanguageModel,
        inputs: Inputs,
        examples: Sequence[Example],
        batch: Batch,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch and its parts.

        Raises:
            InputError: if an example names no level.
        """
        if not all(example.level for example in examples):
            raise InputError("soft levels need a task that names a level, such as NameLevel")
        tokens = self.words.tokens(model)
        mos, std = (batch[name].to(inputs.ids.device) for name in ("mos", "std"))
        likelihood, logits = model(_parts, inputs, tokens)
        labels = self.labels(mos, std)
        divergence = level_divergence(logits, tokens, labels)
        scores = expected_score(level_probabilities(logits, tokens))
        fidelity = self._fidelity(in_order(scores), in_order(mos), in_order(std), names_of(batch))
        loss = self.rank * fidelity + _IMAGES * self.level * (likelihood + divergence)
        parts = {"likelihood": likelihood, "divergence": divergence, "fidelity": fidelity}
        return loss, {name: part.detach() for name, part in parts.items()}

    def labels(self, mos: Tensor, std: Tensor) -> Tensor:
        """Soft labels ``[B, 5]``."""
        rated = std.isfinite()
        labels = two_point_labels(mos)
        if rated.any():
            labels[rated] = soft_labels(mos[rated], std[rated], self.density)
        return labels

    def _fidelity(self, scores: Tensor, mos: Tensor, std: Tensor, names: list[str]) -> Tensor:
        first, second = pairs(names)
        if not self.rank or not first:
            return 0 * scores.sum()
        # Without a deviation, all ratings of an image count as equal.
        std = std.nan_to_num(0.0)
        return pairwise_fidelity(
            (scores[first], scores[second]), (mos[first], mos[second]), (std[first], std[second])
        )


def pairs(names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Rows paired with the next row of the same data set, the last with the first."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    several = [group for group in rows.values() if len(group) > 1]
    first = [row for group in several for row in group]
    second = [row for group in several for row in (*group[1:], group[0])]
    return first, second


def in_order(rows: Tensor) -> Tensor:
    """Rows ``[B]`` of all ranks in the order of the batch, which ranks take in turn."""
    return all_gather(rows).view(world()[1], -1).T.flatten()


def names_of(batch: Batch) -> list[str]:
    """Data sets of the rows of all ranks, in the same order."""
    rank, ranks = world()
    rows = [(place * ranks + rank, name) for place, name in enumerate(batch["dataset"])]
    return [name for _, name in gather_rows(rows, lambda pair: pair[0])]


def _parts(model: VisionLanguageModel, inputs: Inputs, tokens: list[int]) -> tuple[Tensor, Tensor]:
    """Likelihood of all answer tokens except the levels, and logits at the levels ``[B, V]``.

    The likelihood is this rank's share of the mean over the tokens of all ranks.
    """
    assert inputs.labels is not None
    hidden: Any = model.hidden(inputs).last_hidden_state[:, :-1]
    labels = inputs.labels[:, 1:]
    named = torch.isin(labels, torch.tensor(tokens, device=labels.device))
    # The last occurrence: an opening may hold the same word.
    places = named.long() * torch.arange(1, labels.shape[1] + 1, device=labels.device)
    at = places.argmax(1)
    rows = torch.arange(len(at), device=at.device)
    others = labels.clone()
    others[rows, at] = IGNORED
    summed = smoothed_likelihood(hidden, model.head.weight, others, 0.0, reduction="sum")
    likelihood = summed * share((others != IGNORED).sum())
    return likelihood, model.head(hidden[rows, at])
