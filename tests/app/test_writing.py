"""A model that writes: its text grows while it is asked, and its answer is that of the readout."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from served_pages import picture_bytes

from lit_biqa.analysis.case import Case, batch_of
from lit_biqa.app.pictures import Picture
from lit_biqa.app.service import Service
from lit_biqa.app.settings import ServerLimits
from lit_biqa.app.writing import PictureWriter, Task
from lit_biqa.backbones.tiny_chat import TinyQwenVL
from lit_biqa.readouts import TwoPass
from lit_biqa.rollout.engine import Sampling


@pytest.fixture(scope="module")
def writer() -> PictureWriter:
    model = TinyQwenVL(width=32, layers=1)
    model.load()
    readout = TwoPass(sampling=Sampling(temperature=0.0, budget=12))
    return PictureWriter("tiny", model.eval(), readout, "two-pass")


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    (tmp_path / "a.png").write_bytes(picture_bytes(0))
    return Picture("a.png", tmp_path / "a.png")


def test_text_grows_to_what_the_readout_reads(writer: PictureWriter, picture: Picture) -> None:
    heard: list[list[str]] = []
    (case,) = writer([Task(picture, heard.append)])
    pixels = writer.model.image_transform(Image.open(Path(str(picture.source))))
    with torch.no_grad():
        (alone,) = writer.readout.read(writer.model, batch_of(pixels, Path("a"), math.nan))[
            "two-pass"
        ]
    assert case.score == pytest.approx(alone.score)
    assert case.caption == alone.text
    assert alone.text.startswith(heard[0][0].strip())
    assert [len(passes) for passes in heard] == sorted(len(passes) for passes in heard)


def test_nobody_waits_any_more(writer: PictureWriter, picture: Picture) -> None:
    task = Task(picture)
    task.stop.set()
    (case,) = writer([task])
    assert (case.status, math.isnan(case.score)) == ("stopped", True)


def test_a_broken_picture_is_not_written_about(writer: PictureWriter, tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"none")
    (case,) = writer([Task(Picture("b.jpg", tmp_path / "b.jpg"))])
    assert case.status == "not an image, or of a format that Pillow cannot read"


def test_a_service_tells_texts_and_then_the_answer(writer: PictureWriter, picture: Picture) -> None:
    async def told(seconds: int) -> list[Any]:
        service = Service(None, writer, ServerLimits(seconds=seconds))
        try:
            return [item async for item in service.write(picture)]
        finally:
            service.close()

    *texts, case = asyncio.run(told(60))
    assert isinstance(case, Case)
    assert case.status == "ok"
    assert all(case.caption.startswith(passes[0].strip()) for passes in texts)
