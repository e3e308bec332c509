"""Common behaviour of label files: clear errors, and names found in any case."""

from __future__ import annotations

from pathlib import Path

import pytest
from archives import workbook, write

from lit_biqa.data.readers import agiqa3k, csiq, tid2013
from lit_biqa.data.readers.disk import ImageFinder, descend
from lit_biqa.types import InputError


def test_a_label_file_without_rows_or_with_doubles_is_an_error(tmp_path: Path) -> None:
    header = "name,prompt,mos_quality,std_quality\n"
    write(tmp_path / "data.csv", header)
    with pytest.raises(InputError, match="names no image"):
        agiqa3k.ENTRY.labels(tmp_path)
    write(tmp_path / "data.csv", header + "a.jpg,a cat,1,1\na.jpg,a cat,2,1\n")
    with pytest.raises(InputError, match=r"two labels for a\.jpg"):
        agiqa3k.ENTRY.labels(tmp_path)


def test_an_absent_label_file_names_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no label file csiq\.DMOS\.xlsx or csiq\.beta\.xlsx"):
        csiq.read(tmp_path)


def test_folders_and_files_are_found_whatever_their_case(tmp_path: Path) -> None:
    write(tmp_path / "CSIQ" / "Dst_Imgs" / "AWGN" / "1600.awgn.1.png", "")
    folder = descend(tmp_path, "csiq/dst_imgs")
    assert folder == tmp_path / "CSIQ" / "Dst_Imgs"
    finder = ImageFinder([folder])
    assert finder.find("awgn/1600.AWGN.1.png") == folder / "AWGN" / "1600.awgn.1.png"
    assert finder.find("awgn/1600.AWGN.2.png") is None
    assert descend(tmp_path, "kadid10k") is None


def test_of_two_names_that_differ_in_case_the_exact_one_is_taken(tmp_path: Path) -> None:
    write(tmp_path / "I01.bmp", "")
    write(tmp_path / "i01.bmp", "")
    finder = ImageFinder([tmp_path])
    assert finder.find("I01.bmp") == tmp_path / "I01.bmp"
    assert finder.find("i01.bmp") == tmp_path / "i01.bmp"


def test_excels_whole_numbers_and_late_headers(tmp_path: Path) -> None:
    header = ("image", "dst_type", "dst_lev", "dmos_std", "dmos")
    rows: list[tuple[object, ...]] = [header, (1600.0, "awgn", 1.0, 0.1, 0.5)]
    (label,) = csiq.read(workbook(tmp_path / "csiq.DMOS.xlsx", rows, "all_by_image"))
    assert label.name == "1600.AWGN.1.png"
    workbook(tmp_path / "csiq.DMOS.xlsx", [*[("note",)] * 12, *rows], "all_by_image")
    with pytest.raises(InputError, match="no header with the columns image, dst_type"):
        csiq.read(tmp_path)


def test_a_text_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "mos_with_names.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"mos_with_names\.txt is no text file in UTF-8"):
        tid2013.read(tmp_path)
