"""Damaged images: opened as RGB, or refused by name."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from mutations import mutated, plausible
from PIL import Image

from lit_biqa.data.images import open_image


def encoded(form: str, mode: str = "RGB") -> bytes:
    """A picture of 12 x 9 pixels as a file of a format."""
    picture, file = Image.radial_gradient("L").resize((12, 9)).convert(mode), io.BytesIO()
    picture.save(file, form)
    return file.getvalue()


VALID = [
    *(encoded(form) for form in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")),
    *(encoded("PNG", mode) for mode in ("1", "P", "LA", "RGBA")),
    encoded("JPEG", "CMYK"),
]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images") / "damaged.img"


@given(content=mutated(VALID))
def test_a_damaged_image_is_opened_or_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    plausible(lambda: open_image(file), lambda image: image.mode == "RGB")
