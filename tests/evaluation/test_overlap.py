"""ROUGE-1 of a test's texts against the package rouge-score, its control, and its file."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]
from torch.utils.data import DataLoader

from lit_biqa.callbacks import OverlapReport
from lit_biqa.evaluation import store
from lit_biqa.evaluation.overlap import ReferencedText, another, overlaps
from lit_biqa.types import Batch, InputError, Prediction, Sample, Samples, TextPrediction

WRITTEN = [
    "<caption>a grey dog</caption>\n<think>\nthe dog is sharp\n</think>\n<answer>\n4\n</answer>",
    "a dark street with much noise",
    "",
    "blue sky over a blue sea, and a boat",
]
BARE = ["a grey dog the dog is sharp", *WRITTEN[1:]]
REFERENCES = [
    ("a dog", "the grey dog is sharp"),
    ("noise in a dark street",),
    ("flowers",),
    ("the sea", "a boat on the blue sea"),
]


def texts(condition: str = "image") -> list[ReferencedText]:
    rows = zip(WRITTEN, REFERENCES, strict=True)
    return [ReferencedText("own", "all@1", condition, i, *row) for i, row in enumerate(rows)]


def by_package(pairs: list[tuple[str, tuple[str, ...]]]) -> Any:
    """Means of precision, recall and F, the best of several references by F."""
    scorer = RougeScorer(["rouge1"])
    return np.mean([scorer.score_multi(list(own), text)["rouge1"] for text, own in pairs], axis=0)


def test_means_equal_those_of_the_package() -> None:
    (found,) = overlaps(texts()[::-1])
    own = by_package(list(zip(BARE, REFERENCES, strict=True)))
    others = by_package([(BARE[i], REFERENCES[j]) for i, j in enumerate(another(4, seed=0))])
    assert found.n == 4
    assert (found.precision, found.recall, found.f) == pytest.approx(tuple(own))
    control = (found.shuffled_precision, found.shuffled_recall, found.shuffled_f)
    assert control == pytest.approx(tuple(others))
    assert found.shuffled_f < found.f


@pytest.mark.parametrize("count", [2, 3, 50])
def test_the_control_gives_every_image_the_references_of_another(count: int) -> None:
    places = another(count, seed=3)
    assert sorted(places) == list(range(count))
    assert all(place != image for image, place in enumerate(places))
    assert places == another(count, seed=3)


def test_an_image_alone_has_no_control_and_a_condition_without_texts_no_line() -> None:
    alone = texts()[:1]
    silent = [ReferencedText("own", "all@1", "description", 0, "", ("a dog",))]
    (found,) = overlaps([*alone, *silent])
    assert found.f > 0 and math.isnan(found.shuffled_f)


class Writer(pl.LightningModule):
    """Writes the texts above about the images, and others in a second pass."""

    def __init__(self, references: list[tuple[str, ...]], condition: str = "image") -> None:
        super().__init__()
        self.condition = condition
        self.samples = [
            Sample("own", "all@1", i, f"{i}.png", None, 3.0, texts=held)
            for i, held in enumerate(references)
        ]

    def test_step(self, batch: Batch, batch_idx: int) -> list[Prediction]:  # type: ignore[override]
        return [
            TextPrediction("own", "all@1", i, f"{i}.png", 3.0, 3.0, condition, text=text)
            for i in batch["index"].tolist()
            for condition, text in ((self.condition, WRITTEN[i]), ("text", "a dog"))
        ]

    def batches(self, status: str = "ok") -> DataLoader[Any]:
        import torch

        def collate(rows: list[int]) -> dict[str, Any]:
            states = [status if row == 1 else "ok" for row in rows]
            known = {"dataset": ["own"] * len(rows), "split": ["all@1"] * len(rows)}
            held = Samples(self.samples[row] for row in rows)
            return known | {"index": torch.tensor(rows), "samples": held, "status": states}

        return DataLoader(range(len(self.samples)), batch_size=3, collate_fn=collate)  # type: ignore[arg-type]


def measured(folder: Path, model: Writer, status: str = "ok") -> list[dict[str, str]]:
    trainer = pl.Trainer(
        default_root_dir=folder,
        callbacks=[OverlapReport()],
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        barebones=False,
    )
    trainer.test(model, model.batches(status), verbose=False)
    file = folder / "test" / "rouge.csv"
    if not file.exists():
        return []
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_a_test_writes_a_line_for_texts_about_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = measured(tmp_path, Writer(REFERENCES))
    own = by_package(list(zip(BARE, REFERENCES, strict=True)))
    assert (line["dataset"], line["condition"], line["n"]) == ("own", "image", "4")
    assert float(line["f"]) == pytest.approx(own[2], abs=1e-6)
    assert f"| {own[2]:.4f} |" in capsys.readouterr().out
    assert len(measured(tmp_path, Writer(REFERENCES))) == 1, "the same test replaces its line"
    held = measured(tmp_path, Writer(REFERENCES, "paper-image"), status="unreadable")
    assert [(line["condition"], line["n"]) for line in held] == [
        ("image", "4"),
        ("paper-image", "3"),
    ]


def test_images_without_references_have_no_file(tmp_path: Path) -> None:
    assert measured(tmp_path, Writer([()] * 4)) == []


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rouge.csv").write_text("dataset,split\n")
    with pytest.raises(InputError, match=r"rouge\.csv cannot be read: it has no column condition"):
        store.read_overlaps(tmp_path / "rouge.csv")
