"""Images: any file opened as 8-bit RGB, and the image files of a folder."""

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
# Formats of these suffixes. Pillow goes by content, and knows formats that run a program (EPS) or
# hold other files (ICO, whose header does not give their size).
_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_setting_limit = Lock()  # guards Pillow's own limit, which warns from 89 megapixels on
_decoding = Lock()  # guards images opened elsewhere: Pillow decodes one only once, when first read
_WHITE = (255, 255, 255, 255)
_STRIP = 1 << 22  # pixels converted at once where that takes layers


class UnreadableImage(InputError):  # noqa: N818  reads better where it is raised
    """An image cannot be decoded. The message names it and says why."""


def open_image(
    source: str | Path | Image.Image,
    max_pixels: int = limits.IMAGE_PIXELS,
    least_side: int = 1,
    name: str = "",
) -> Image.Image:
    """Open an image upright and as 8-bit RGB, as people see it.

    EXIF orientation is applied. Transparent pixels are composited over white, as a page shows them;
    dropping alpha would reveal whatever colour lies beneath. 16-bit greys are scaled to 8 bits,
    65,535 to 255. CMYK and palettes are converted, animations give their first frame, and colour
    profiles are ignored. HEIC needs the extra ``heic``.

    Args:
        source: a path or a PIL image; several threads may open the same one.
        max_pixels: largest width times height; a larger image is refused by its header and not
            decoded.
        least_side: smallest shorter side in pixels; `limits.RATED_SIDE` for an image to rate.
        name: name in messages; by default the file name, or ``image``.

    Raises:
        UnreadableImage: if the file is absent, truncated, too large, too small or no image, or its
            samples have no known range (floats, integers beyond 16 bits); names the file.
    """
    file = getattr(source, "filename", "") if isinstance(source, Image.Image) else source
    name = name or str(file) or "image"
    try:
        if isinstance(source, Image.Image):
            _check_side(source, least_side)
            with _decoding:
                source.load()
            return _to_rgb(source)
        refuse_special(Path(source))
        with _opened(source, max_pixels) as image:
            _check_side(image, least_side)
            return _to_rgb(image)
    except FileNotFoundError:
        raise UnreadableImage(f"{name}: no such file") from None
    except InputError as error:
        raise UnreadableImage(str(error)) from error
    except Exception as error:  # decoders raise errors of any kind on broken files
        raise UnreadableImage(f"{name}: {_reason(error)}") from error


def open_small(path: Path, side: int) -> tuple[Image.Image, tuple[int, int]]:
    """Open an image as `open_image` does, about as small as asked, and tell its full size.

    A JPEG is decoded at a fraction of its size, which takes a fraction of the time.

    Args:
        path: file of the image.
        side: pixels that the longer side of the result has at least, unless the image is smaller.

    Returns:
        The image, and width and height of the original, upright.

    Raises:
        UnreadableImage: as `open_image`.
    """
    try:
        refuse_special(path)
        with _opened(path, limits.IMAGE_PIXELS) as image:
            size = image.size
            image.draft("RGB", (side, side))
            drafted = image.size
            small = _to_rgb(image)
    except FileNotFoundError:
        raise UnreadableImage(f"{path}: no such file") from None
    except Exception as error:  # decoders raise errors of any kind on broken files
        raise UnreadableImage(f"{path}: {_reason(error)}") from error
    turned = small.size != drafted
    return small, size[::-1] if turned else size


@contextmanager
def _opened(path: str | Path, max_pixels: int) -> Iterator[Image.Image]:
    """Opened image whose header is read and whose pixels are not decoded.

    Raises:
        ValueError: if it has more pixels than allowed.
        ImportError: if it is HEIC and its plug-in is not installed.
    """
    Image.init()
    if heif.is_heic(Path(path)):
        heif.install()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    with _setting_limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    with image:
        if image.width * image.height > max_pixels:
            raise ValueError(
                f"{image.width:,} x {image.height:,} pixels are more than the {max_pixels:,} "
                "allowed (data.images.max_pixels of a run, --picture-pixels of a server): scale "
                "it down, or raise the limit"
            )
        yield image


def _check_side(image: Image.Image, least: int) -> None:
    if min(image.size) < least:
        raise ValueError(
            f"{image.width} x {image.height} pixels are too small to rate: the shorter side needs "
            f"{least}"
        )


def has_image_suffix(path: Path) -> bool:
    """True if a file name has an image's suffix, in any case."""
    return path.suffix.lower() in SUFFIXES


def list_files(folder: Path) -> list[Path]:
    """Files in a folder and its sub-folders, sorted, without hidden ones.

    Raises:
        InputError: if there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder that holds the images")
    inside = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    names = [name for name in inside if not any(part.startswith(".") for part in name.parts)]
    return [folder / name for name in sorted(names)]


def list_images(folder: Path) -> list[Path]:
    """Files of `list_files` that have an image's suffix.

    Raises:
        InputError: if the folder is absent or holds no such file.
    """
    images = [path for path in list_files(folder) if has_image_suffix(path)]
    if not images:
        raise InputError(
            f"{folder} and its sub-folders hold no image ({' '.join(sorted(SUFFIXES))})"
        )
    return images


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of a format that Pillow cannot read"
    return str(error) or type(error).__name__


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # transposing copies
        image = ImageOps.exif_transpose(image)
    if image.mode[0] not in "IF" and not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    # In strips: the layers of a whole image would take several times its memory.
    whole, rows = Image.new("RGB", image.size), max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(image.height, top + rows))
        whole.paste(_strip_to_rgb(image.crop(box)), box)
    return whole


def _strip_to_rgb(image: Image.Image) -> Image.Image:
    """Samples of more than 8 bits scaled to 8, and transparency laid over white."""
    if image.mode[0] in "IF":
        image = _scale_to_8_bits(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, _WHITE), layer)
    return image.convert("RGB")


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min(initial=0) < 0 or values.max(initial=0) > 65535:
        raise ValueError(
            f"samples of mode {image.mode} have no known range; save it with 8 or 16 bits"
        )
    return Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
