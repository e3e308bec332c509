"""Names in files of others: the longest tail in common, and never a guess."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_biqa.data.catalog import load_split
from lit_biqa.data.names import Names, join
from lit_biqa.data.readers.tables import csv_rows
from lit_biqa.types import InputError, Sample


def images(*names: str, dataset: str = "own") -> list[Sample]:
    return [Sample(dataset, "all", i, name, None) for i, name in enumerate(names)]


def joined(samples: list[Sample], *names: str) -> dict[str, str]:
    """Names of a file -> names of the images that they are found to be about."""
    places = {("", name): f"file line {i}" for i, name in enumerate(names)}
    known = {(s.dataset, s.index): s.name for s in samples}
    return {name: known[key] for (_, name), key in join(samples, places).items()}


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("shroom.AWGN.4.png", "shroom.AWGN.4.png"),
        ("CSIQ/dst_imgs/AWGN/shroom.AWGN.4.png", "shroom.AWGN.4.png"),
        ("D:\\CSIQ\\Shroom.awgn.4.PNG", "shroom.AWGN.4.png"),
        ("./shroom.AWGN.4.png", "shroom.AWGN.4.png"),
        ("LIVE/jpeg/img2.bmp", "jpeg/img2.bmp"),
        ("jp2k\\IMG2.bmp", "jp2k/img2.bmp"),
        ("img7.bmp", "wn/img7.bmp"),
        ("noise/img7.bmp", "wn/img7.bmp"),
        ("gblur/img2.bmp", None),
        ("other.png", None),
        ("shroom.AWGN.4.png/x", None),
        ("", None),
    ],
)
def test_the_longest_tail_in_common(name: str, image: str | None) -> None:
    known = images("jpeg/img2.bmp", "jp2k/img2.bmp", "wn/img7.bmp", "shroom.AWGN.4.png")
    assert joined(known, name) == ({name: image} if image else {})


def test_ambiguity_names_two() -> None:
    live = images("jpeg/img2.bmp", "jp2k/img2.bmp", "wn/img2.bmp")
    message = r'^file line 0: image "img2.bmp" is ambiguous, jpeg/img2.bmp of own or jp2k/img2.bmp'
    with pytest.raises(InputError, match=message):
        joined(live, "img2.bmp")
    with pytest.raises(InputError, match=r"line 1: y/a.png and x/a.png both match a.png of own"):
        joined(images("a.png"), "x/a.png", "y/a.png")
    with pytest.raises(InputError, match=r'"a.PNG" is ambiguous, a.png of own or A.png of own'):
        joined(images("a.png", "A.png"), "a.PNG")


def test_the_exact_name_goes_before_others() -> None:
    assert joined(images("a.png", "A.png"), "A.png", "a.png") == {
        "A.png": "A.png",
        "a.png": "a.png",
    }
    assert joined(images("a.png"), "x/a.png", "a.png") == {"a.png": "a.png"}
    # Of a file about a whole data set, of which a part is asked for.
    assert joined(images("jp2k/img2.bmp"), "jpeg/img2.bmp", "jp2k/img2.bmp") == {
        "jp2k/img2.bmp": "jp2k/img2.bmp"
    }


def test_images_beside_are_never_ambiguous_and_never_robbed() -> None:
    train = images("jp2k/img2.bmp")
    beside = [replace(s, index=s.index + 9) for s in images("jpeg/img2.bmp", "wn/img2.bmp")]
    names = ("jpeg/img2.bmp", "gblur/img2.bmp")
    found = join(train, {("", name): "here" for name in names}, beside)
    assert found == {("", "jpeg/img2.bmp"): ("own", 9)}
    assert join([], {("", "img2.bmp"): "here"}, beside) == {}
    assert join(train, {("", "img2.bmp"): "here"}, beside) == {("", "img2.bmp"): ("own", 0)}


def test_a_data_set_that_is_named_is_kept_to() -> None:
    both = [*images("a.png", dataset="one"), *images("a.png", dataset="two")]
    assert join(both, {("two", "x/a.png"): "here"}) == {("two", "x/a.png"): ("two", 0)}
    assert join(both, {("three", "a.png"): "here"}) == {}


PATHS = st.lists(st.sampled_from("abAB"), min_size=1, max_size=3).map("/".join)


def common(one: str, two: str) -> int:
    """Length of the common tail of two paths, counted part by part."""
    ones, twos = one.lower().split("/"), two.lower().split("/")
    count = 0
    while count < min(len(ones), len(twos)) and ones[-1 - count] == twos[-1 - count]:
        count += 1
    return count


@given(st.lists(PATHS, unique=True, min_size=1, max_size=6), PATHS)
def test_find_gives_what_has_most_in_common(names: list[str], name: str) -> None:
    found = Names((each, each) for each in names).find(name)
    most = max(common(each, name) for each in names)
    best = [each for each in names if common(each, name) == most > 0]
    assert set(found) <= set(best)
    if len(best) == 1:
        assert found == best
    if name in names:
        assert found == [name]


def test_published_predictions_with_folders_in_front(shared: Path) -> None:
    samples = load_split("koniq10k/paper3015", "test", shared / "data", missing="keep").samples
    file = shared / "data" / "predictions" / "v11_koniq.csv"
    names = [row.text("image") for row in csv_rows(file, ("image",))]
    plain = join(samples, {("", name): "here" for name in names})
    moved = join(samples, {("", f"koniq\\512x384\\{n.upper()}"): "here" for n in names})
    assert len(plain) == len(moved) == len(samples) == 3015
    assert list(plain.values()) == list(moved.values())
