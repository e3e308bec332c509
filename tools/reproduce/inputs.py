"""Inputs of the small runs: models of random weights, and files that nobody publishes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageFilter, ImageStat

from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.backbones.weights import state_of
from lit_biqa.data.catalog import load_split
from lit_biqa.data.texts import attach_texts
from lit_biqa.evaluation.report import write_csv
from lit_biqa.text.levels import level_of
from lit_biqa.types import Sample

#: Texts of a reasoning model about the images of each data set, relative to the data's folder.
TEXTS = {"agiqa3k": "texts/baseline_v11_agiqa.json", "livew": "texts/baseline_v11_livew.json"}
FIELD = "perception_text:think"
#: Data sets that stand in for all others, and the split of each.
SPLIT = "random-0"
_MADE = 64  # images in each file below


def write(folder: Path, root: Path) -> None:
    """Write the models and files into a folder.

    ``qwen`` and ``owl`` are checkpoints of random weights, ``qwen_to_swap`` one of other weights;
    ``conversations.json`` has descriptions with a level, as Q-Pathway has; ``annotations.json`` has
    texts in the place of human-written ones; ``degradations.csv`` names images that are blurred
    here; ``scores.csv`` has the contrast of each image as another program's score.

    Args:
        folder: where they go.
        root: folder of the data sets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = {"qwen": TinyQwenVL(), "qwen_to_swap": TinyQwenVL(seed=1), "owl": TinyMplugOwl2()}
    for name, model in made.items():
        _save(model, folder / name)
    train = _described("agiqa3k", "train", root)
    _write_json(folder / "conversations.json", [_conversation(sample) for sample in train[:_MADE]])
    _write_json(folder / "annotations.json", [_annotation(sample) for sample in train])
    _write_degraded(folder, train[:_MADE])
    tested = [sample for name in TEXTS for sample in _samples(name, "test", root)]
    scores = [_contrast(sample) for sample in tested]
    write_csv(folder / "scores.csv", ("dataset", "image", "score"), scores)


def _save(model: VisionLanguageModel, folder: Path) -> None:
    model.load()
    model.save(folder, state_of(model))


def _samples(dataset: str, part: str, root: Path) -> list[Sample]:
    return list(load_split(f"{dataset}/{SPLIT}", part, root, missing="skip").samples)


def _described(dataset: str, part: str, root: Path) -> list[Sample]:
    samples = _samples(dataset, part, root)
    texts = attach_texts(samples, [root / TEXTS[dataset]], fields=[FIELD])
    return [sample for sample in texts if sample.texts]


def _conversation(sample: Sample) -> dict[str, object]:
    said = f"{sample.texts[0]} Therefore, the quality of this image is {level_of(sample.mos)}."
    turns = [
        {"from": "human", "value": "<image>Describe and evaluate the quality of the image."},
        {"from": "gpt", "value": said},
    ]
    return {"image": sample.name, "conversations": turns}


def _annotation(sample: Sample) -> dict[str, object]:
    return {
        "dataset": sample.dataset,
        "image": sample.name,
        "annotations": [{"annotator": "1", "dims": {"quality": sample.texts[0]}}],
    }


def _write_degraded(folder: Path, samples: list[Sample]) -> None:
    (folder / "degraded").mkdir(exist_ok=True)
    rows = []
    for sample in samples:
        name = f"degraded/{sample.name}"
        with Image.open(_path(sample)) as image:
            image.convert("RGB").filter(ImageFilter.GaussianBlur(3)).save(folder / name)
        rows.append((name, "blur", "obvious"))
    write_csv(folder / "degradations.csv", ("image", "degradation", "severity"), rows)


def _contrast(sample: Sample) -> tuple[str, str, float]:
    with Image.open(_path(sample)) as image:
        return sample.dataset, sample.name, ImageStat.Stat(image.convert("L")).stddev[0]


def _path(sample: Sample) -> Path:
    if sample.path is None:
        raise ValueError(f"{sample.name} has no file")
    return sample.path


def _write_json(path: Path, records: Sequence[dict[str, object]]) -> None:
    path.write_text(json.dumps(records))
