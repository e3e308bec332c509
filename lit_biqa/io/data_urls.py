"""Data URLs: pictures inside a page or a request, for which no file is written or served."""

from __future__ import annotations

import base64
import io

from PIL import Image


def data_url(content: bytes, kind: str) -> str:
    """Data URL of a file's content.

    Example:
        >>> data_url(b"GIF89a", "image/gif")
        'data:image/gif;base64,R0lGODlh'

    Args:
        content: bytes of the file.
        kind: its media type.
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def webp_url(image: Image.Image, quality: int) -> str:
    """Data URL of an RGB picture as WebP.

    Args:
        image: the picture.
        quality: WebP's, from 0 to 100.
    """
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality)
    return data_url(file.getvalue(), "image/webp")
