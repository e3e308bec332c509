"""Made-up conversations to train on, as batches of ours and as transformers' models take them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from bench_rali import make_images
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from lit_biqa.backbones.inputs import IGNORED, Inputs
from lit_biqa.backbones.mplug_owl2 import IMAGE_TOKEN_INDEX, expand_placeholders
from lit_biqa.backbones.owl2 import MplugOwl2
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.data.dataset import Item, collate
from lit_biqa.data.feedbacks import ConversationSettings
from lit_biqa.methods.chat import Untouched
from lit_biqa.tasks import Converse
from lit_biqa.text import prompts
from lit_biqa.types import IMAGE

TASK = Converse()
COMMON = 200
CONVERSATIONS = "conversations.json"


def made_up_words(folder: Path, count: int) -> Path:
    """A file of random words, for tokenizers to learn and rows to be made of.

    The first `COMMON` are said often, so that small vocabularies hold them whole too.
    """
    rng = np.random.default_rng(0)
    syllables = [f"{a}{b}" for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "an")]
    words = ["".join(rng.choice(syllables, rng.integers(2, 5))) for _ in range(count)]
    file = folder / "words.txt"
    file.write_text(" ".join(words[:COMMON] * 50 + words), encoding="utf-8")
    return file


def conversations(words: Path, rows: int) -> ConversationSettings:
    """Rows of three kinds by turns, as tuning meets them.

    An image and its description of 30 to 200 words, an image with a question and 1 to 4 words for
    an answer, and a description without image with the word for its quality.

    Args:
        words: a file of words; images and the file of rows are written beside it.
        rows: how many.
    """
    rng, folder = np.random.default_rng(1), words.parent
    known = words.read_text(encoding="utf-8").split()[:COMMON]
    files = make_images(folder, min(rows, 48))

    def text(least: int, most: int) -> str:
        return " ".join(rng.choice(known, int(np.exp(rng.uniform(np.log(least), np.log(most))))))

    def record(row: int) -> dict[str, Any]:
        image = {"image": files[row % len(files)].name}
        if row % 3 == 0:
            return image | _turns(f"{IMAGE}{prompts.DESCRIBE}", text(30, 200))
        if row % 3 == 1:
            return image | _turns(f"{IMAGE}Which part of it is sharp?", text(1, 4))
        return _turns(prompts.conclude(text(30, 200)), f"{prompts.QUALITY_OPENING} poor.")

    file = folder / CONVERSATIONS
    file.write_text(json.dumps([record(row) for row in range(rows)]), encoding="utf-8")
    return ConversationSettings(str(file), str(folder), decompose=False)


def _turns(question: str, answer: str) -> dict[str, Any]:
    said = (("human", question), ("gpt", answer))
    return {"conversations": [{"from": who, "value": text} for who, text in said]}


class Rows(Dataset[Item]):
    """The training rows of a DataModule one by one, their images read when they are asked for."""

    def __init__(self, data: BIQADataModule, backbone: VisionLanguageModel) -> None:
        transform = backbone.image_transform
        data.use_transforms(Untouched(transform), transform)
        data.setup("fit")
        self.rows: Any = data.train_dataloader().dataset

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Item:
        item: Item = self.rows[[(row, 0)]][0]
        return item


def encoded(backbone: VisionLanguageModel, items: Sequence[Item]) -> Inputs:
    """A batch of rows, padded on the right to the longest."""
    examples = TASK.examples(collate(items))
    return backbone.encode([e.chat for e in examples], [e.answer for e in examples])


def keywords(model: VisionLanguageModel, inputs: Inputs) -> dict[str, Tensor]:
    """Rows as transformers' forward takes them, with the labels of next tokens if they have any.

    The Trainer's label smoother shifts no labels for models that are not registered as causal
    language models, as these are not.
    """
    seen = [pixels for pixels in inputs.pixels if pixels is not None]
    if isinstance(model, MplugOwl2):
        made = _of_owl(inputs, model.positions_per_image)
        made |= {"images": torch.stack(seen)} if seen else {}
    else:
        made = {"input_ids": inputs.ids, "attention_mask": inputs.mask.long()}
        made |= {"mm_token_type_ids": inputs.image.int()}
        made |= {"labels": inputs.labels} if inputs.labels is not None else {}
        if seen:
            made["pixel_values"] = torch.cat([pixels.flatten(0, 1) for pixels in seen])
            made["image_grid_thw"] = torch.tensor([(1, *pixels.shape[:2]) for pixels in seen])
    if "labels" in made:
        made["labels"] = F.pad(made["labels"][:, 1:], (0, 1), value=IGNORED)
    return made


def _of_owl(inputs: Inputs, positions: int) -> dict[str, Tensor]:
    """Rows with one placeholder for an image; labels as wide as the model will make them."""
    first = inputs.image & ~F.pad(inputs.image, (1, -1))
    kept = inputs.mask & (first | ~inputs.image)

    def compact(values: Tensor, filling: int) -> Tensor:
        rows = [row[keep] for row, keep in zip(values, kept, strict=True)]
        return pad_sequence(rows, batch_first=True, padding_value=filling)

    ids = compact(inputs.ids.masked_fill(inputs.image, IMAGE_TOKEN_INDEX), 0)
    made = {"input_ids": ids, "attention_mask": compact(inputs.mask.long(), 0)}
    if inputs.labels is not None:
        widths = torch.full((int(first.sum()),), positions)
        labels = compact(inputs.labels, IGNORED)
        wide = expand_placeholders(ids, made["attention_mask"], labels, widths).labels
        assert wide is not None
        made["labels"] = wide
    return made
