"""Completions in a checkpoint, replayed when a fit resumes between their updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.rollout.engine import completion
from lit_biqa.types import Chat, Completion

Key = tuple[str, int]
Record = dict[str, Any]


def records(
    keys: Sequence[Key],
    passes: Sequence[Sequence[Sequence[Completion]]],
    old: Sequence[Tensor | None],
) -> list[Record]:
    """One record of plain values and tensors for each image.

    Args:
        keys: data set and row of P images.
        passes: for each pass the completions of each chat, the same number of chats per image.
        old: for each pass log-probabilities ``[R * n, T]`` of its completions, or ``None``.
    """
    return [
        {
            "key": key,
            "said": [
                [[list(one.ids) for one in some] for some in _share(said, row, len(keys))]
                for said in passes
            ],
            "old": [None if o is None else _share(o, row, len(keys)).clone().cpu() for o in old],
        }
        for row, key in enumerate(keys)
    ]


def _share(rows: Any, row: int, count: int) -> Any:
    size = len(rows) // count
    return rows[row * size : (row + 1) * size]


class ReplayedCompletions:
    """Replays the completions of a checkpoint instead of sampling new ones.

    Args:
        model: the model that sampled them.
        found: records by data set and row.
        keys: the images of a batch.

    Raises:
        KeyError: if one of them has no record.
    """

    def __init__(
        self, model: VisionLanguageModel, found: Mapping[Key, Record], keys: Sequence[Key]
    ) -> None:
        self.model, self.rows, self.number = model, [found[key] for key in keys], 0

    def sample(self, chats: Sequence[Chat | None], n: int) -> list[list[Completion]]:
        """Completions of the next pass."""
        completions = [some for row in self.rows for some in row["said"][self.number]]
        self.number += 1
        return [[completion(self.model, ids) for ids in some] for some in completions]

    def old(self, number: int, width: int) -> Tensor:
        """Log-probabilities ``[R * n, width]`` of a pass, counted from 0; 0 after the end."""
        parts = [row["old"][number] for row in self.rows]
        return torch.cat(
            [pad(part, (0, max(0, width - part.shape[1])))[:, :width] for part in parts]
        )
