"""HEIC files, which Pillow reads with a plug-in: the extra ``heic``."""

from __future__ import annotations

from pathlib import Path

_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs".split())
_HEAD = 64  # bytes; enough for the list of brands in a camera's file


def is_heic(path: Path) -> bool:
    """True if a file's content is HEIC, whatever its suffix; phones also write ``.jpg``.

    The file begins with a box ``ftyp``: its size, the main brand, a version, then further brands
    of four letters. AVIF has the same box and other brands.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head[4:8] != b"ftyp":
        return False
    box = head[8 : int.from_bytes(head[:4], "big")]
    return not _BRANDS.isdisjoint(box[start : start + 4] for start in range(0, len(box), 4))


def install() -> None:
    """Have Pillow open HEIC from now on.

    Raises:
        ImportError: if the plug-in is not installed; names the command that installs it.
    """
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise ImportError("HEIC needs the extra heic: pip install 'lit_biqa[heic]'") from None
    register_heif_opener()
