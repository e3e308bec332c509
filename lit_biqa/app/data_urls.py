"""Pictures inside a page: data URLs, for which no file is written or served."""

from __future__ import annotations

import base64
import io

from PIL import Image


def data_url(image: Image.Image, side: int, quality: int = 75) -> str:
    """Data URL of a copy whose longer side has at most ``side`` pixels, as WebP.

    Args:
        image: RGB.
        side: pixels of the longer side.
        quality: WebP's, up to 100; 101 codes without loss.
    """
    small = image.copy()
    small.thumbnail((side, side))
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=min(quality, 100), lossless=quality > 100)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
