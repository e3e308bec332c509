"""Batches of pictures, training images of prototypes, distortions, and the tables of a page."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from served_pages import picture_bytes, tiny_scorer

from lit_biqa.analysis.case import Case
from lit_biqa.app import sheet
from lit_biqa.app.distortions import KINDS, levels_of, scaled
from lit_biqa.app.examples import nearest_examples
from lit_biqa.app.pictures import Picture, PictureScorer, Scored
from lit_biqa.data.embeddings import EmbeddingRow, Embeddings
from lit_biqa.types import InputError


def test_training_images_are_those_nearest_to_the_prototypes(tmp_path: Path) -> None:
    head = tiny_scorer(tmp_path).head
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(20, 8, generator=generator)
    rows = [EmbeddingRow("own", "all", i, f"{i}.png", 3.0, 0.1, "train") for i in range(20)]
    rows[3] = EmbeddingRow("own", "all", 3, "3.png", 3.0, 0.1, "test")
    found = nearest_examples(head, Embeddings(vectors, tuple(rows)), {("own", 5): ("five",)})
    points = head.compress(vectors).double().numpy()
    for example, prototype in zip(found, head.prototypes.double().numpy(), strict=True):
        cosines = points @ prototype / np.linalg.norm(points, axis=1)
        cosines[3] = -np.inf
        assert example.name == f"{cosines.argmax()}.png"
        assert example.texts == (("five",) if example.name == "5.png" else ())
    with pytest.raises(InputError, match="5 dimensions"):
        nearest_examples(head, Embeddings(vectors[:, :5], tuple(rows)), {})


def test_each_picture_of_a_batch_has_what_it_asked_for(tmp_path: Path) -> None:
    scorer = tiny_scorer(tmp_path)
    image = Image.open(io.BytesIO(picture_bytes(0)))
    pictures = [
        Picture("a", image, 2),
        Picture("b", image, 0, True),
        Picture("c", image, reason="no"),
    ]
    first, second, third = PictureScorer(scorer)(pictures)
    assert (len(first.nearest), first.thumbnail) == (2, "")
    assert (len(second.nearest), second.thumbnail[:22]) == (0, "data:image/webp;base64")
    assert first.score == second.score == pytest.approx(scorer(image).item(), abs=1e-5)
    assert (third.status, third.level) == ("no", "")


def test_a_picture_that_nobody_waits_for_is_not_opened(tmp_path: Path) -> None:
    picture = Picture("a.png", tmp_path / "absent.png")
    picture.stop.set()
    (scored,) = PictureScorer(tiny_scorer(tmp_path))([picture])
    assert scored.status == "no longer waited for"


def test_distortions_grow_and_stay_the_same() -> None:
    photo = Image.open(io.BytesIO(picture_bytes(0))).resize((700, 600), Image.Resampling.BICUBIC)
    small = scaled(photo)
    assert max(small.size) == 512
    base = np.asarray(small, dtype=float)
    for kind in KINDS:
        levels = [np.asarray(image, dtype=float) for image in levels_of(small, kind)]
        errors = [np.square(level - base).mean() for level in levels]
        assert errors == sorted(errors)
        assert errors[0] > 0
        assert np.array_equal(levels[2], np.asarray(levels_of(small, kind)[2]))


def test_table_and_csv_hold_names_as_they_are() -> None:
    name = 'a "<b>", x.png'
    case = Case("m", "image", 2.5, "poor", caption="dark\nand soft", reasoning="")
    answers = [
        sheet.Answer(name, Scored(name, 3.456), case),
        sheet.Answer("b", Scored("b", status="broken")),
    ]
    rows = list(csv.DictReader(io.StringIO(sheet.csv_of(answers, True, True), newline="")))
    assert rows[0] == {
        "picture": name,
        "score": "3.46",
        "level": "good",
        "rating": "2.50",
        "rated level": "poor",
        "status": "ok",
        "caption": "dark\nand soft",
        "reasoning": "",
    }
    assert (rows[1]["score"], rows[1]["rating"], rows[1]["status"]) == ("", "", "broken")
    assert sheet.columns(True, False) == ["picture", "score", "level", "status"]
    assert sheet.columns(False, True) == ["picture", "rating", "rated level", "status"]


def test_what_clients_and_models_write_is_no_html() -> None:
    bad = "<script>alert(1)</script>"
    scored = Scored(bad, 3.0)
    case = Case("m", "image", math.nan, status=bad, caption=bad)
    blocks = [
        sheet.picture_blocks([scored]),
        sheet.summary([sheet.Answer(bad, Scored(bad, status=bad))]),
        sheet.written_block(bad, [bad]),
        sheet.written_block(bad, [], case),
    ]
    for block in blocks:
        assert "<script" not in block
        assert "&lt;script&gt;" in block
