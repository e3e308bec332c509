"""A CSV of one's own: merged rows, and faults that name file and line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from archives import write

from lit_biqa.data.readers import csv_file
from lit_biqa.data.settings import SetSettings
from lit_biqa.types import InputError


def test_own_csv_merges_rows_and_keeps_order(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    write(path, "image,mos,text\nb.png,3,one\na.png,1.5,\nb.png,3.0,two\n")
    labels = csv_file.read(path, tmp_path)
    assert [label.name for label in labels] == ["b.png", "a.png"]
    assert labels[0].texts == ("one", "two")
    assert labels[1].texts == ()
    assert math.isnan(labels[0].std)
    assert csv_file.entry(path).mos(labels[0])[0] == 3.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"column image, mos missing; expected image, mos, found nothing"),
        ("image,score\na.png,3\n", r"column mos missing; .*found image, score"),
        ("image,mos\na.png,nan\n", r"line 2: mos is 'nan', a finite number"),
        ("image,mos\na.png,good\n", r"line 2: mos is 'good'"),
        ("image,mos\na.png,3\nb.png\n", r"line 3: 1 cells under 2 columns"),
        ("image,mos\na.png,3\nb.png,\n", r"line 3: mos is empty"),
        ("image,mos,text\na.png,3,sharp, dark\n", r"line 2: 4 cells under 3 columns"),
        ("image,mos,mos\na.png,3,4\n", r"two columns are called mos"),
        ("image,mos\na.png,3\na.png,3\n", r"line 3: a\.png stands in line 2 too"),
        ("image,mos,text\na.png,3,x\na.png,3,x\n", r"line 3: a\.png stands in line 2 too"),
        (
            "image,mos,reference\na.png,3,x\na.png,3,y\n",
            r"line 3: .*another group or reference .*line 2",
        ),
        ('image,mos,text\na.png,3,"good\nb.png,3,"nice"\n', r"line 2: no CSV row"),
        ('image,mos,text\na.png,3,"good\nb.png,3,bad\n', r"line 2: no CSV row"),
        ('image,mos\n"a.png,3\nb.png",3\n', r"line 2: image continues over 2 lines"),
        (
            "image,mos\na.png,73\n",
            r"line 2: mos is 73, not on the scale .*data\.sets\.scale",
        ),
        ("image,mos\na.png,3\na.png,4\n", r"line 3: a\.png has another mos .*line 2"),
        ("image,mos,std\na.png,3,-1\n", r"line 2: std is '-1', .*not below 0"),
    ],
)
def test_own_csv_faults_name_file_and_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.csv"
    write(path, content)
    with pytest.raises(InputError, match=f"mine.csv.*{message}"):
        csv_file.read(path, tmp_path)


def test_own_csv_absent_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        csv_file.entry(tmp_path / "none.csv")
    (tmp_path / "photo.csv").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(InputError, match="no CSV file in UTF-8"):
        csv_file.read(tmp_path / "photo.csv", tmp_path)


def test_degradations_in_the_place_of_a_mos(tmp_path: Path) -> None:
    file = tmp_path / "degraded.csv"
    file.write_text("image,degradation,severity,mos\na.png,Blur,Serious,\nb.png,null,null,4.5\n")
    made = csv_file.entry(file)
    labels = made.labels(tmp_path)
    assert [label.degradation for label in labels] == [("blur", "serious"), ("null", "null")]
    assert [made.mos(label)[0] for label in labels] == pytest.approx([math.nan, 4.5], nan_ok=True)
    file.write_text("image,degradation\na.png,blur\n")
    with pytest.raises(InputError, match="severity"):
        made.labels(tmp_path)


@pytest.mark.parametrize(
    ("scale", "given", "mos"),
    [((0.0, 100.0), "75", 4.0), ((100.0, 0.0), "75", 2.0), ((1.0, 10.0), "10", 5.0)],
)
def test_other_scales_are_mapped_onto_that_of_mos(
    scale: tuple[float, float], given: str, mos: float, tmp_path: Path
) -> None:
    path = tmp_path / "mine.csv"
    write(path, f"image,mos,std\na.png,{given},9\n")
    entry = csv_file.entry(path, scale)
    [label] = entry.labels(tmp_path)
    span = abs(scale[1] - scale[0])
    assert entry.mos(label) == pytest.approx((mos, 4 * 9 / span))


@pytest.mark.parametrize("scale", [(3.0, 3.0), (0.0, math.inf)])
def test_a_scale_has_two_ends(scale: tuple[float, float]) -> None:
    with pytest.raises(InputError, match=r"data\.sets\.scale is \[.*worst and the best"):
        SetSettings(scale=scale)
