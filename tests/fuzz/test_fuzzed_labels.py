"""Damaged label files: each reader gives the authors' labels, or refuses the file by name.

The entry's count and digest are those of the small file here, so that a reading of any other labels
is a fault; a CSV of one's own has no digest, and there rows may change but none may be lost.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from archives import release, workbook, write
from hypothesis import given
from hypothesis import strategies as st
from mutations import mutated, plausible, unchanged

from lit_biqa.data.readers import (
    agiqa3k,
    csiq,
    csv_file,
    kadid10k,
    koniq10k,
    livew,
    pipal,
    spaq,
    tid2013,
)
from lit_biqa.data.readers.entry import Entry, digest

SHEET = "MOS and Image attribute scores.xlsx"
KONIQ = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set\n"
AGIQA = "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align\n"


@dataclass(frozen=True)
class Case:
    """A data set of a few rows.

    Attributes:
        entry: of the catalogue.
        file: its label file, within the folder.
        furnish: writes the whole folder.
    """

    entry: Entry
    file: str
    furnish: Callable[[Path], object]


def _koniq(folder: Path) -> None:
    rows = (f"{i}.jpg,0,0,0,1,0,100,{40 + i}.5,0.5,training\n" for i in range(6))
    write(folder / koniq10k.FILES[0], KONIQ + "".join(rows))


def _spaq(folder: Path) -> None:
    rows = [("Image name", "MOS"), *((f"0000{i}.jpg", 40.0 + i) for i in range(6))]
    workbook(folder / "Annotations" / SHEET, rows)


def _kadid(folder: Path) -> None:
    rows = (f"I01_01_0{i}.png,I01.png,{i}.5,0.25\n" for i in range(1, 5))
    write(folder / "dmos.csv", "dist_img,ref_img,dmos,var\n" + "".join(rows))


def _pipal(folder: Path) -> None:
    rows = (f"A0001_00_0{i}.bmp,15{i}0.06\n" for i in range(6))
    write(folder / "Train_Label" / "A0001.txt", "".join(rows))


def _livew(folder: Path) -> None:
    release(folder, [f"{i}.bmp" for i in range(6)], [30.0 + i for i in range(6)], [9.0] * 6)


def _agiqa(folder: Path) -> None:
    rows = (f'glide_{i}.jpg,"a cat, two",,,,{i}.1,0.2,1.0,0.1\n' for i in range(5))
    write(folder / "data.csv", AGIQA + "".join(rows))


def _csiq(folder: Path) -> None:
    header = ("image", "dst_type", "dst_lev", "dmos_std", "dmos")
    rows = [header, *((1600.0, "noise", i, 0.1, i / 9) for i in range(1, 6))]
    workbook(folder / "csiq.DMOS.xlsx", rows, "all_by_image")


def _tid(folder: Path) -> None:
    rows = (f"{i}.51429 I01_01_{i}.bmp\n" for i in range(1, 6))
    write(folder / "mos_with_names.txt", "".join(rows))


CASES = {
    "koniq10k": Case(koniq10k.ENTRY, koniq10k.FILES[0], _koniq),
    "spaq": Case(spaq.ENTRY, f"Annotations/{SHEET}", _spaq),
    "kadid10k": Case(kadid10k.ENTRY, "dmos.csv", _kadid),
    "pipal": Case(pipal.ENTRY, "Train_Label/A0001.txt", _pipal),
    "livew": Case(livew.ENTRY, "Data/AllMOS_release.mat", _livew),
    "livew names": Case(livew.ENTRY, "Data/AllImages_release.mat", _livew),
    "agiqa3k": Case(agiqa3k.ENTRY, "data.csv", _agiqa),
    "csiq": Case(csiq.ENTRY, "csiq.DMOS.xlsx", _csiq),
    "tid2013": Case(tid2013.ENTRY, "mos_with_names.txt", _tid),
}


@pytest.fixture(scope="module", params=CASES)
def furnished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Entry, Path, Path, bytes]:
    """An entry that knows a small label file, its folder, the file, and the valid content."""
    case, folder = CASES[request.param], tmp_path_factory.mktemp("labels")
    case.furnish(folder)
    free = replace(case.entry, count=None, digest="")
    labels = free.labels(folder)
    file = folder / case.file
    known = replace(case.entry, count=len(labels), digest=mark(free, folder))
    return known, folder, file, file.read_bytes()


def zipped(content: bytes, name: str, member: bytes) -> bytes:
    """A workbook with another member of that name, as a whole and valid archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
        for each in old.namelist():
            new.writestr(each, member if each == name else old.read(each))
    return packed.getvalue()


def damaged(data: st.DataObject, content: bytes) -> bytes:
    """A mutation of a file; of a workbook, as often of one of its members."""
    if not content.startswith(b"PK") or data.draw(st.booleans()):
        return data.draw(mutated([content]))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        name = data.draw(st.sampled_from(archive.namelist()))
        return zipped(content, name, data.draw(mutated([archive.read(name)])))


@given(data=st.data())
def test_a_damaged_label_file_is_refused_or_read_as_it_was(
    furnished: tuple[Entry, Path, Path, bytes], data: st.DataObject
) -> None:
    entry, folder, file, content = furnished
    file.write_bytes(damaged(data, content))
    unchanged(lambda: mark(entry, folder), entry.digest)


def mark(entry: Entry, folder: Path) -> str:
    """The digest of all labels of a folder, as the catalogue reads them."""
    return digest((label.name, entry.mos(label)[0]) for label in entry.labels(folder))


OWN = b'image,mos,std,text\na.png,1.5,0.5,"sharp, bright"\nb.png,2.5,0.25,dark\nc.png,5,,\n'


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own") / "own.csv"


@given(content=mutated([OWN]))
def test_a_damaged_csv_of_ones_own_has_plausible_labels(table: Path, content: bytes) -> None:
    table.write_bytes(content)

    def read() -> Sequence[float]:
        entry = csv_file.entry(table)
        return [entry.mos(label)[0] for label in entry.labels(table.parent)]

    plausible(read, lambda scores: all(1 <= mos <= 5 for mos in scores))
