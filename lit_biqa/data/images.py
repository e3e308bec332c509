"""Any image opened as 8-bit RGB, and the images of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from lit_biqa import limits
from lit_biqa.compat import heif
from lit_biqa.io.files import refuse_special
from lit_biqa.types import InputError

_ENDINGS = "avif bmp gif heic heif jfif jp2 jpe jpeg jpg pgm png ppm tif tiff webp"
SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())
# What these suffixes stand for. Pillow goes by content, and knows formats that run a program (EPS)
# or hold files within (ICO, whose header says nothing of their size).
_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_setting_limit = Lock()  # Pillow's own limit, which would warn from 89 megapixels on
_WHITE = (255, 255, 255, 255)


class UnreadableImage(InputError):  # noqa: N818  reads better where it is raised
    """An image cannot be decoded. The message names it and says why."""


def open_image(
    source: str | Path | Image.Image,
    max_pixels: int = limits.IMAGE_PIXELS,
    least_side: int = 1,
    name: str = "",
) -> Image.Image:
    """Open an image as people see it: upright, 8-bit RGB.

    EXIF orientation is applied. Transparent pixels are laid over white, as a page shows them;
    dropping alpha instead would bring out whatever colour lies hidden beneath. 16-bit greys are
    scaled to 8 bits, 65,535 to 255. CMYK and palettes are converted, of animations the first
    frame is taken, and colour profiles are not applied. HEIC is read where the extra ``heic`` is
    installed.

    Args:
        source: a path or a PIL image.
        max_pixels: width times height that the header of a file may name; no pixel of a larger
            one is decoded.
        least_side: pixels that the shorter side has at least; `limits.RATED_SIDE` for an image
            that is to be rated.
        name: in messages; that of its file where none is given, or ``image``.

    Raises:
        UnreadableImage: if the file is absent, truncated, too large, too small or not an image, or
            the samples have no known range (floats, integers beyond 16 bits); names the file.
    """
    file = getattr(source, "filename", "") if isinstance(source, Image.Image) else source
    name = name or str(file) or "image"
    try:
        if isinstance(source, Image.Image):
            _check_side(source, least_side)
            return _to_rgb(source)
        refuse_special(Path(source))
        with _opened(source, max_pixels) as image:
            _check_side(image, least_side)
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
        ImportError: if it is HEIC and what reads it is not installed.
    """
    Image.init()
    if heif.is_heic(Path(path)):
        heif.install()
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
                f"allowed; scale it down (in a run data.images.max_pixels raises the limit)"
            )
        yield image


def _check_side(image: Image.Image, least: int) -> None:
    if min(image.size) < least:
        raise ValueError(
            f"{image.width} x {image.height} pixels are too small to rate: the shorter side needs "
            f"{least}"
        )


def has_image_suffix(path: Path) -> bool:
    """True for a file name that ends as those of images do, in any case."""
    return path.suffix.lower() in SUFFIXES


def list_files(folder: Path) -> list[Path]:
    """All files in a folder and the folders under it, sorted; hidden ones are passed over.

    Raises:
        InputError: if there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder that holds the images")
    inside = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    names = [name for name in inside if not any(part.startswith(".") for part in name.parts)]
    return [folder / name for name in sorted(names)]


def list_images(folder: Path) -> list[Path]:
    """The files of `list_files` that have an image's suffix.

    Raises:
        InputError: if the folder is absent or holds no file with an image's suffix.
    """
    images = [path for path in list_files(folder) if has_image_suffix(path)]
    if not images:
        raise InputError(
            f"{folder}: no image in it or under it (looked for {' '.join(sorted(SUFFIXES))})"
        )
    return images


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of a kind that Pillow cannot read"
    return str(error) or type(error).__name__


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
