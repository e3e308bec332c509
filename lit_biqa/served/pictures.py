"""Pictures as servers take them: within the limits on pixels, as PNG in a data URL."""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from lit_biqa.backbones.qwen_vl import wide_enough
from lit_biqa.io import data_urls
from lit_biqa.limits import SENT_BYTES
from lit_biqa.types import InputError


@dataclass(frozen=True)
class Picture:
    """Transform from an image to the bytes of a PNG file ``[bytes]``, uint8; for workers.

    The image is scaled as the image processor of Qwen2.5-VL would scale it, so that a server of
    this family with the same limits finds nothing left to scale. PNG keeps each pixel.

    Attributes:
        min_pixels: smaller images are enlarged to this number of pixels.
        max_pixels: larger images are scaled down to it.
        grid: sides are multiples of it.
    """

    min_pixels: int
    max_pixels: int
    grid: int

    def __call__(self, image: Image.Image) -> Tensor:
        """Scale an image and encode it.

        Raises:
            InputError: for an image that is too narrow, or too large even as it is sent.
        """
        from lit_biqa.compat.transformers import smart_resize

        image = wide_enough(image, self.grid)
        height, width = smart_resize(
            image.height, image.width, self.grid, self.min_pixels, self.max_pixels
        )
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=1)  # more takes seconds and saves little
        size = file.getbuffer().nbytes
        if size > SENT_BYTES:
            raise InputError(
                f"{width} x {height} pixels make a PNG of {size:,} bytes, the limit is "
                f"{SENT_BYTES:,}: lower model.server.max_pixels"
            )
        return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def data_url(pixels: Tensor) -> str:
    """Data URL of a PNG file's bytes ``[bytes]``."""
    return data_urls.data_url(pixels.cpu().numpy().tobytes(), "image/png")
