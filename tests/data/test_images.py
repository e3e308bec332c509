"""Every kind of image file opened as 8-bit RGB, and broken ones named."""

from __future__ import annotations

import os
import struct
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from PIL import Image

from lit_biqa.data.images import UnreadableImage, list_files, list_images, open_image
from lit_biqa.types import InputError


def pixel(image: Image.Image, x: int = 0, y: int = 0) -> tuple[int, ...]:
    assert image.mode == "RGB"
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return tuple(int(v) for v in value)


def saved(folder: Path, image: Image.Image, suffix: str = ".png") -> Path:
    path = folder / f"image{suffix}"
    image.save(path)
    return path


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (3, 2), 77), (77, 77, 77)),
        (Image.new("1", (3, 2), 1), (255, 255, 255)),
        (Image.new("RGB", (1, 1), (1, 2, 3)), (1, 2, 3)),
        (Image.new("RGBA", (3, 2), (10, 20, 30, 255)), (10, 20, 30)),
        # Alpha 0 shows white whatever colour is stored; alpha 51 is one fifth.
        (Image.new("RGBA", (3, 2), (10, 20, 30, 0)), (255, 255, 255)),
        (Image.new("RGBA", (3, 2), (0, 100, 200, 51)), (204, 224, 244)),
        (Image.new("LA", (3, 2), (0, 51)), (204, 204, 204)),
        (Image.new("I;16", (3, 2), 65535), (255, 255, 255)),
        (Image.new("I;16", (3, 2), 257 * 100), (100, 100, 100)),
        (Image.new("I;16", (3, 2), 300), (1, 1, 1)),
    ],
)
def test_modes(tmp_path: Path, image: Image.Image, expected: tuple[int, ...]) -> None:
    opened = open_image(saved(tmp_path, image))
    assert opened.size == image.size
    assert pixel(opened) == expected


def test_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putpixel((1, 0), 1)
    path = tmp_path / "image.png"
    image.save(path, transparency=1)
    opened = open_image(path)
    assert pixel(opened) == (200, 0, 0)
    assert pixel(opened, x=1) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "PA"])
def test_strips_are_joined_to_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Large images are converted in strips, which take less memory than layers of the whole."""
    noise = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(noise.integers(0, 65536, (23, 17), dtype=np.uint16))
    else:
        values = noise.integers(0, 256, (23, 17, 4), dtype=np.uint8)
        image = Image.fromarray(values, "RGBA")
        image = image if mode == "RGBA" else image.convert("LA")
        image = image if mode != "PA" else image.convert("RGBA").quantize(16)
    image.save(tmp_path / "a.png")
    whole = open_image(tmp_path / "a.png")
    monkeypatch.setattr("lit_biqa.data.images._STRIP", 40)  # two rows
    assert np.array_equal(np.asarray(open_image(tmp_path / "a.png")), np.asarray(whole))


def test_cmyk(tmp_path: Path) -> None:
    opened = open_image(saved(tmp_path, Image.new("CMYK", (8, 8), (255, 0, 0, 0)), ".jpg"))
    red, green, blue = pixel(opened)
    assert red < 5 and green > 250 and blue > 250


def test_32_bit_samples_within_16_bits_are_scaled_and_others_refused(tmp_path: Path) -> None:
    inside = Image.fromarray(np.full((2, 2), 65535, np.int32))
    assert pixel(open_image(inside)) == (255, 255, 255)
    beyond = saved(tmp_path, Image.fromarray(np.full((2, 2), 65536, np.int32)), ".tif")
    with pytest.raises(UnreadableImage, match=r"image\.tif.*no known range"):
        open_image(beyond)
    with pytest.raises(UnreadableImage, match="no known range"):
        open_image(Image.new("F", (2, 2), 0.5))


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1), (255, 0, 0))
    image.putpixel((1, 0), (0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: the left pixel comes to the top
    path = tmp_path / "turned.png"
    image.save(path, exif=exif)
    opened = open_image(path)
    assert opened.size == (1, 2)
    assert pixel(opened) == (255, 0, 0)
    assert pixel(opened, y=1) == (0, 0, 255)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp", ".jp2", ".gif"])
def test_truncated_files_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), suffix)
    assert open_image(path).size == (64, 64)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImage, match=f"image{suffix}"):
        open_image(path)


def test_an_image_opened_elsewhere_is_refused_by_name_too(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.effect_noise((64, 64), 50), ".jpg")
    path.write_bytes(path.read_bytes()[:600])
    with (
        Image.open(path) as image,
        pytest.raises(UnreadableImage, match=r"image\.jpg: .*truncated"),
    ):
        open_image(image)


def test_several_threads_open_one_image_that_is_not_decoded_yet(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    together = Barrier(4)
    with Image.open(tmp_path / "a.png") as image, ThreadPoolExecutor(4) as pool:

        def opened(_: int) -> bytes:
            together.wait()
            return open_image(image).tobytes()

        assert set(pool.map(opened, range(4))) == {pixels.tobytes()}


def test_no_image_no_file_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not an image")
    for name in ("empty.jpg", "text.jpg", "absent.jpg", "."):
        with pytest.raises(UnreadableImage, match=str(tmp_path)):
            open_image(tmp_path / name)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path, kind in ((tmp_path / "pipe.png", "pipe"), (Path("/dev/zero"), "device")):
        with pytest.raises(UnreadableImage, match=f"{path} is a {kind}"):
            open_image(path)


def announcing(folder: Path, width: int, height: int) -> Path:
    """A PNG whose header names a size, with no pixel behind it."""
    size = struct.pack(">II", width, height) + bytes((8, 2, 0, 0, 0))
    parts = [(b"IHDR", size), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    path = folder / f"{width}x{height}.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in parts
        )
    )
    return path


def test_size_is_checked_before_any_pixel_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    def decode(self: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", decode)
    limit = Image.MAX_IMAGE_PIXELS
    for width, height in ((13_300, 13_300), (12_001, 9_000), (2**31 - 1, 2**31 - 1)):
        with pytest.raises(UnreadableImage, match=r"more than the 108,000,000 allowed.*max_pixels"):
            open_image(announcing(tmp_path, width, height))
    for size, most in (((12_000, 9_000), None), ((20_000, 20_000), 400_000_000)):
        path = announcing(tmp_path, *size)
        with pytest.raises(UnreadableImage, match="decoded"):
            open_image(path) if most is None else open_image(path, most)
    assert not recwarn.list
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_file_that_would_run_a_program_is_no_image(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match=r"a\.png: not an image"):
        open_image(tmp_path / "a.png")


def test_an_image_too_small_to_rate_is_refused_where_a_least_side_is_asked_for(
    tmp_path: Path,
) -> None:
    path = saved(tmp_path, Image.new("RGB", (300, 7)))
    assert open_image(path).size == (300, 7)
    with pytest.raises(UnreadableImage, match=r"image\.png: 300 x 7 pixels are too small.* 8$"):
        open_image(path, least_side=8)
    assert open_image(saved(tmp_path, Image.new("RGB", (8, 9))), least_side=8).size == (8, 9)


def test_avif(tmp_path: Path) -> None:
    red, green, blue = pixel(
        open_image(saved(tmp_path, Image.new("RGB", (32, 32), "red"), ".avif"))
    )
    assert red > 245 and green < 10 and blue < 10


HEIC = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(40)


def test_heic_without_its_plug_in_says_what_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Phones write it with the suffix of JPEG too."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for name in ("photo.heic", "photo.jpg"):
        (tmp_path / name).write_bytes(HEIC)
        with pytest.raises(UnreadableImage, match=rf"{name}: HEIC .*pip install .*\[heic\]"):
            open_image(tmp_path / name)


def test_heic(tmp_path: Path) -> None:
    plug_in = pytest.importorskip("pillow_heif", reason="reads HEIC: pip install 'lit_biqa[heic]'")
    plug_in.register_heif_opener()
    image = Image.new("RGB", (64, 32), (255, 0, 0))
    image.paste((0, 0, 255), (32, 0, 64, 32))
    for suffix in (".heic", ".jpg"):
        path = tmp_path / f"image{suffix}"
        image.save(path, "HEIF")
        opened = open_image(path)
        assert opened.size == (64, 32)
        assert pixel(opened)[0] > 230 and pixel(opened, x=63)[2] > 230
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UnreadableImage, match=f"image{suffix}: "):
            open_image(path)
    with pytest.raises(UnreadableImage, match="more than the 10 allowed"):
        image.save(path, "HEIF")
        open_image(path, max_pixels=10)


def test_a_large_image_is_read_without_a_warning_of_pillow(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    monochrome = Image.new("1", (10_000, 9_000))  # a megabyte in memory per 8 megapixels
    assert open_image(saved(tmp_path, monochrome)).size == (10_000, 9_000)
    assert not recwarn.list


def test_every_file_of_a_folder_is_listed(tmp_path: Path) -> None:
    for name in ("b.JPG", "notes.txt", ".hidden", "deep/raw.NEF", ".cache/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in list_files(tmp_path)]
    assert names == ["b.JPG", "deep/raw.NEF", "notes.txt"]


def test_a_folder_is_listed_below_too_in_any_case_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "deep/c.Bmp", "notes.txt", "._a.png", ".cache/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert names == ["a.png", "b.JPG", "deep/c.Bmp"]


def test_an_empty_or_absent_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"hold no image.*\.png"):
        list_images(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        list_images(tmp_path / "absent")
