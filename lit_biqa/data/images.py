"""Any image opened as 8-bit RGB, and the images of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lit_biqa import limits
from lit_biqa.io.files import refuse_special
from lit_biqa.types import InputError

ImageLike = str | Path | Image.Image | Tensor

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
# What these suffixes stand for. Pillow goes by content, and knows formats that run a program (EPS)
# or hold files within (ICO, whose header says nothing of their size).
_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_setting_limit = Lock()  # Pillow's own limit, which would warn from 89 megapixels on
_WHITE = (255, 255, 255, 255)


class UnreadableImage(InputError):  # noqa: N818  reads better where it is raised
    """An image cannot be decoded. The message names it and says why."""


def open_image(source: ImageLike, max_pixels: int = limits.IMAGE_PIXELS) -> Image.Image:
    """Open an image as people see it: upright, 8-bit RGB.

    EXIF orientation is applied. Transparent pixels are laid over white, as a page shows them;
    dropping alpha instead would bring out whatever colour lies hidden beneath. 16-bit greys are
    scaled to 8 bits, 65,535 to 255. CMYK and palettes are converted, of animations the first
    frame is taken, and colour profiles are not applied.

    Args:
        source: a path, a PIL image, or a uint8 tensor ``[3, H, W]``, ``[1, H, W]`` or ``[H, W]``.
        max_pixels: width times height that the header of a file may name; no pixel of a larger
            one is decoded.

    Raises:
        UnreadableImage: if the file is absent, truncated, too large or not an image, or the
            samples have no known range (floats, integers beyond 16 bits); names the file.
        InputError: if a tensor has another type or shape.
    """
    if isinstance(source, Tensor):
        return _from_tensor(source)
    name = getattr(source, "filename", "") or "image" if isinstance(source, Image.Image) else source
    try:
        if isinstance(source, Image.Image):
            return _to_rgb(source)
        refuse_special(Path(source))
        with _opened(source, max_pixels) as image:
            return _to_rgb(image)
    except FileNotFoundError:
        raise UnreadableImage(f"{name}: no such file") from None
    except InputError as error:
        raise UnreadableImage(str(error)) from error
    except Exception as error:  # decoders raise all sorts on broken files
        raise UnreadableImage(f"{name}: {_reason(error)}") from error


@contextmanager
def _opened(path: str | Path, max_pixels: int) -> Iterator[Image.Image]:
    """An image of which the header is read, and nothing decoded.

    Raises:
        ValueError: if it names more pixels than allowed.
    """
    Image.init()
    known = [name for name in _FORMATS if name in Image.OPEN]
    with _setting_limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path, formats=known)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    with image:
        if image.width * image.height > max_pixels:
            raise ValueError(
                f"{image.width:,} x {image.height:,} pixels are more than the {max_pixels:,} "
                f"allowed; scale it down, or raise data.images.max_pixels"
            )
        yield image


def list_images(folder: Path) -> list[Path]:
    """Image files in a folder and the folders under it, sorted; hidden ones are passed over.

    Raises:
        InputError: if the folder is absent or holds no file with an image's suffix.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder that holds the images")
    inside = (path.relative_to(folder) for path in folder.rglob("*"))
    names = [
        name
        for name in inside
        if name.suffix.lower() in SUFFIXES and not any(p.startswith(".") for p in name.parts)
    ]
    if not names:
        raise InputError(
            f"{folder}: no image in it or under it (looked for {' '.join(sorted(SUFFIXES))})"
        )
    return [folder / name for name in sorted(names)]


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of a kind that Pillow cannot read"
    return str(error) or type(error).__name__


def _from_tensor(pixels: Tensor) -> Image.Image:
    shaped = pixels.ndim in (2, 3) and pixels.shape[:-2].numel() in (1, 3)
    if pixels.dtype != torch.uint8 or not shaped:
        raise InputError(
            f"image tensor of {pixels.dtype}, shape {list(pixels.shape)}: "
            "give uint8 values of shape [3, H, W], [1, H, W] or [H, W]"
        )
    colour = pixels.expand(3, *pixels.shape[-2:]).permute(1, 2, 0)
    return Image.fromarray(colour.contiguous().cpu().numpy())


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # turning copies: ask first
        image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":
        image = _scale_to_8_bits(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, _WHITE), layer)
    return image if image.mode == "RGB" else image.convert("RGB")


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min(initial=0) < 0 or values.max(initial=0) > 65535:
        raise ValueError(
            f"samples of mode {image.mode} have no known range; save it with 8 or 16 bits"
        )
    return Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
