"""Label files cut, flipped or made to harm: an error of one line that names the file."""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from archives import release, workbook, write
from scipy.io import savemat

from lit_biqa.data.catalog import load_split
from lit_biqa.data.readers import livew, spaq, tables
from lit_biqa.data.readers.entry import Label
from lit_biqa.data.readers.matlab import numbers, texts
from lit_biqa.data.readers.tables import csv_rows, separated_rows
from lit_biqa.data.readers.workbooks import sheet_rows
from lit_biqa.limits import LABEL_LINE, MATLAB_BYTES, WORKBOOK_BYTES, WORKBOOK_CELLS
from lit_biqa.types import InputError

BOOK = Path("Annotations/MOS and Image attribute scores.xlsx")


@pytest.fixture(scope="module")
def spaq_book(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("spaq")
    rows = [("Image name", "MOS"), *((f"{i:05}.jpg", 2 + i / 7) for i in range(60))]
    workbook(folder / BOOK, rows)
    return (folder / BOOK).read_bytes()


@pytest.fixture(scope="module")
def live_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("live")
    release(folder, [f"{i}.bmp" for i in range(30)], [50.0] * 30, [9.0] * 30)
    return {path.name: path.read_bytes() for path in (folder / "Data").iterdir()}


def mutated(content: bytes, seed: int) -> bytes:
    """Cut off, or with up to eight bytes changed, or with a piece taken out."""
    draw = random.Random(seed)
    place = draw.randrange(len(content))
    if seed % 4 == 0:
        return content[:place]
    if seed % 4 == 1:
        return content[:place] + content[place + draw.randrange(1, 40) :]
    changed = bytearray(content)
    for _ in range(draw.randrange(1, 9)):
        changed[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(changed)


def read_or_refuse(read: Callable[[Path], list[Label]], folder: Path) -> int:
    """Labels read; 0 where the files are refused as they should be."""
    try:
        return len(read(folder))
    except InputError as error:
        assert str(folder) in str(error)
        assert "\n" not in str(error)
        return 0


def test_damaged_workbooks_are_read_or_refused(tmp_path: Path, spaq_book: bytes) -> None:
    (tmp_path / BOOK).parent.mkdir()
    found = []
    for seed in range(80):
        (tmp_path / BOOK).write_bytes(mutated(spaq_book, seed))
        found.append(read_or_refuse(spaq.read, tmp_path))
    assert found.count(0) > 40


def test_damaged_matlab_files_are_read_or_refused(
    tmp_path: Path, live_files: dict[str, bytes]
) -> None:
    (tmp_path / "Data").mkdir()
    found = []
    for seed in range(150):
        name = sorted(live_files)[seed % 3]
        for each, content in live_files.items():
            content = mutated(content, seed) if each == name else content
            (tmp_path / "Data" / each).write_bytes(content)
        found.append(read_or_refuse(livew.read, tmp_path))
    assert found.count(0) > 30


def repacked(book: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """A workbook with its parts changed."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book)) as old, zipfile.ZipFile(made, "w", 8) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return made.getvalue()


def test_a_sheet_that_breaks_off_in_the_middle(tmp_path: Path, spaq_book: bytes) -> None:
    path = tmp_path / "cut.xlsx"
    path.write_bytes(
        repacked(spaq_book, lambda name, part: part[: len(part) // 2] if "sheet1" in name else part)
    )
    with pytest.raises(InputError, match=r"cut\.xlsx cannot be read as an \.xlsx workbook"):
        list(sheet_rows(path, ("Image name", "MOS")))


def test_a_workbook_that_unpacks_to_gigabytes(tmp_path: Path, spaq_book: bytes) -> None:
    path = tmp_path / "bomb.xlsx"
    path.write_bytes(
        repacked(
            spaq_book,
            lambda name, part: part + b" " * WORKBOOK_BYTES if "sheet1" in name else part,
        )
    )
    assert path.stat().st_size < 200_000
    with pytest.raises(InputError, match=rf"unpacks to .* more than the {WORKBOOK_BYTES:,} of any"):
        list(sheet_rows(path, ("Image name", "MOS")))


def test_a_workbook_that_declares_less_than_it_unpacks_to(tmp_path: Path, spaq_book: bytes) -> None:
    whole = repacked(
        spaq_book, lambda name, part: part + b" " * WORKBOOK_BYTES if "sheet1" in name else part
    )
    with zipfile.ZipFile(io.BytesIO(whole)) as parts:
        size = next(p.file_size for p in parts.infolist() if "sheet1" in p.filename)
    path = tmp_path / "liar.xlsx"
    path.write_bytes(whole.replace(struct.pack("<I", size), struct.pack("<I", 1000)))
    with pytest.raises(InputError, match=r"liar\.xlsx cannot be read as an \.xlsx workbook"):
        list(sheet_rows(path, ("Image name", "MOS")))


@pytest.mark.parametrize(
    ("old", "new", "rows"),
    [
        (b'<dimension ref="A1:B61"', b'<dimension ref="A1:XFD1048576"', 60),
        (b'<dimension ref="A1:B61"', b'<dimension ref="A1:B9"', 60),
        (b'<row r="61"', b'<row r="99999999999"', None),
    ],
)
def test_a_sheet_of_another_size_than_it_claims(
    tmp_path: Path, spaq_book: bytes, old: bytes, new: bytes, rows: int | None
) -> None:
    def change(name: str, part: bytes) -> bytes:
        assert "sheet1.xml" not in name or old in part
        return part.replace(old, new)

    path = tmp_path / "sized.xlsx"
    path.write_bytes(repacked(spaq_book, change))
    if rows is not None:
        assert len(list(sheet_rows(path, ("Image name", "MOS")))) == rows
        return
    with pytest.raises(InputError, match=f"more than {WORKBOOK_CELLS:,} cells"):
        list(sheet_rows(path, ("Image name", "MOS")))


def test_a_second_score_column_of_a_workbook(tmp_path: Path) -> None:
    workbook(tmp_path / BOOK, [("Image name", "MOS", "MOS"), ("a.jpg", 3, 4)])
    with pytest.raises(InputError, match=r"row 1: two columns are called MOS"):
        spaq.read(tmp_path)


def cell(*values: object) -> np.ndarray:
    made = np.empty((1, len(values)), dtype=object)
    made[0, :] = values
    return made


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (cell(1.0, np.empty((0, 0)), 2.0), "entry 2: v is empty"),
        (cell("one", "two"), "entry 1: v is 'one', a finite number"),
        (np.array([1.0, np.nan]), "entry 2: v is 'nan', a finite number"),
        (cell(1.0, np.array([[1.0, 2.0]])), "an entry holds 2 values"),
        (cell(1.0, cell(2.0)), "entry 2: v is"),
        ({"field": 1.0}, "an array of class 2"),
        (np.array([1 + 2j]), "entry 1: v is"),
    ],
)
def test_matlab_variables_that_are_no_numbers(
    tmp_path: Path, variable: object, message: str
) -> None:
    path = tmp_path / "labels.mat"
    savemat(path, {"v": variable})
    with pytest.raises(InputError, match=message) as error:
        numbers(path, "v")
    assert "\n" not in str(error.value)


def test_matlab_variables_that_are_no_texts(tmp_path: Path) -> None:
    path = tmp_path / "labels.mat"
    savemat(path, {"v": cell("a.bmp", 3.0), "w": cell("a.bmp", np.empty((0, 0)))})
    with pytest.raises(InputError, match="entry 2: text is expected"):
        texts(path, "v")
    with pytest.raises(InputError, match="entry 2: w is empty"):
        texts(path, "w")
    savemat(path, {"v": cell("a.bmp", "b.bmp"), "w": {"field": 1.0}})
    assert texts(path, "v") == ["a.bmp", "b.bmp"]


def test_a_matlab_file_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    packed = zlib.compress(bytes(MATLAB_BYTES + 1))
    path = tmp_path / "bomb.mat"
    savemat(path, {"v": [1.0]})
    tag = struct.pack("<II", 15, len(packed))
    path.write_bytes(path.read_bytes() + tag + packed)
    with pytest.raises(InputError, match=rf"unpacks to more than {MATLAB_BYTES:,} bytes"):
        numbers(path, "v")


def test_a_matlab_shape_that_is_made_up(tmp_path: Path) -> None:
    path = tmp_path / "shape.mat"
    savemat(path, {"v": np.ones((3, 5))})
    content = path.read_bytes()
    shape = struct.pack("<ii", 3, 5)
    assert content.count(shape) == 1
    path.write_bytes(content.replace(shape, struct.pack("<ii", 30_000, 50_000)))
    with pytest.raises(InputError, match="beyond any label file"):
        numbers(path, "v")


def test_lines_and_cells_without_end(tmp_path: Path) -> None:
    write(tmp_path / "long.csv", "image,mos\na.png,3\n" + "x" * (LABEL_LINE + 1))
    with pytest.raises(InputError, match=f"line 3: longer than {LABEL_LINE:,} characters"):
        list(csv_rows(tmp_path / "long.csv", ("image", "mos")))
    with pytest.raises(InputError, match="line 3: longer than"):
        list(separated_rows(tmp_path / "long.csv", ("row",)))
    write(tmp_path / "cell.csv", "image,mos,text\na.png,3," + "x" * 140_000)
    with pytest.raises(InputError, match=r"line 2: .*field limit \(131072\)"):
        list(csv_rows(tmp_path / "cell.csv", ("image", "mos")))


def test_a_file_too_large_and_one_that_is_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "own.csv", "image,mos\na.png,3\n")
    monkeypatch.setattr(tables.check_file, "__defaults__", (10,))
    with pytest.raises(InputError, match="has 18 bytes, more than the 10 of any label file"):
        load_split(str(tmp_path / "own.csv"), "test", tmp_path)
    monkeypatch.undo()
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match=r"pipe\.csv is a pipe, not a file"):
        list(csv_rows(tmp_path / "pipe.csv", ("image",)))
