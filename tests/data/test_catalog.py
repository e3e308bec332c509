"""Data sets found by name, their images located, and samples on [1, 5]."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from archives import file_of, load_partial, release, write

from lit_biqa.data.catalog import ENTRIES, NAMES, entry_of, find, load_split, parse
from lit_biqa.data.readers.entry import digest
from lit_biqa.data.readers.koniq10k import FILES
from lit_biqa.types import InputError

KONIQ = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set\n"


def koniq(root: Path, names: list[str], sizes: dict[str, list[str]]) -> None:
    rows = "".join(f"{name},0,0,0,1,0,9,46.150326797,0.5,test\n" for name in names)
    write(root / "KonIQ-10k" / "koniq10k_distributions_sets.csv", KONIQ + rows)
    for size, present in sizes.items():
        for name in present:
            write(root / "KonIQ-10k" / size / name, "")


def test_the_catalogue_holds_the_data_sets_by_unique_names() -> None:
    expected = "koniq10k spaq kadid10k pipal livew agiqa3k csiq tid2013 liver2 synthetic"
    assert tuple(expected.split()) == NAMES
    for entry in ENTRIES:
        assert find(entry.name) is entry
        assert entry.low < entry.high
        assert entry.split in {*entry.parts, "all", "reference-0"}


@pytest.mark.parametrize(("name", "near"), [("koniq", "koniq10k"), ("AGIQA3k", "agiqa3k")])
def test_an_unknown_name_gets_the_nearest(name: str, near: str) -> None:
    with pytest.raises(InputError, match=f"called '{name}'.* Did you mean {near}"):
        find(name)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("koniq10k", ("koniq10k", "", "test")),
        ("koniq10k/paper3015", ("koniq10k", "paper3015", "test")),
        ("agiqa3k/random-0:train", ("agiqa3k", "random-0", "train")),
        ("my/own.csv", ("my/own.csv", "", "test")),
        ("my/own.csv/random-3:val", ("my/own.csv", "random-3", "val")),
    ],
)
def test_parse(spec: str, expected: tuple[str, str, str]) -> None:
    assert parse(spec, "test") == expected


@pytest.mark.parametrize("spec", ["", "a/b/c", "koniq10k/all:dev", "koniq10k/", "koniq10k:"])
def test_parse_refuses_what_is_no_spec(spec: str) -> None:
    with pytest.raises(
        InputError, match="is no data set: expected NAME, NAME/SPLIT or NAME/SPLIT:PART"
    ):
        parse(spec, "test")


def test_a_sample_has_all_that_is_known(tmp_path: Path) -> None:
    write(
        tmp_path / "kadid10k" / "dmos.csv",
        "dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,4.93,0.25\n",
    )
    write(tmp_path / "kadid10k" / "images" / "I01_01_01.png", "")
    split = load_partial("kadid10k", "test", tmp_path)
    (sample,) = split.samples
    assert (split.dataset, split.name, split.part, split.skipped) == ("kadid10k", "all", "test", 0)
    assert split.digest == digest([("I01_01_01.png", 5.0)])
    assert sample.split == f"all@{split.digest}"
    assert (sample.dataset, sample.index, sample.group) == ("kadid10k", 0, "I01.png")
    assert sample.path == tmp_path / "kadid10k" / "images" / "I01_01_01.png"
    assert sample.mos == 5.0
    assert sample.std == pytest.approx(2 / 3.93)


def test_one_version_of_the_images_is_taken_and_never_mixed(tmp_path: Path) -> None:
    koniq(tmp_path, ["a.jpg", "b.jpg"], {"1024x768": ["a.jpg"], "512x384": ["a.jpg", "b.jpg"]})
    paths = [
        file_of(sample).parent.name for sample in load_partial("koniq10k", "test", tmp_path).samples
    ]
    assert paths == ["512x384", "512x384"]
    koniq(tmp_path, ["a.jpg", "b.jpg"], {"1024x768": ["b.jpg"]})
    paths = [
        file_of(sample).parent.name for sample in load_partial("koniq10k", "test", tmp_path).samples
    ]
    assert paths == ["1024x768", "1024x768"]


def test_the_version_does_not_depend_on_the_part(tmp_path: Path) -> None:
    parts = {"a.jpg": "training", "b.jpg": "test", "c.jpg": "test"}
    rows = "".join(f"{name},0,0,0,1,0,9,46,0.5,{part}\n" for name, part in parts.items())
    koniq(tmp_path, [], {"1024x768": ["a.jpg"], "512x384": ["b.jpg", "c.jpg"]})
    write(tmp_path / "KonIQ-10k" / "koniq10k_distributions_sets.csv", KONIQ + rows)
    with pytest.raises(InputError, match="1 of 1 images are not under"):
        load_partial("koniq10k", "train", tmp_path)


def test_missing_images_are_kept_for_runs_that_open_none(tmp_path: Path) -> None:
    koniq(tmp_path, ["a.jpg", "b.jpg"], {"512x384": ["b.jpg"]})
    split = load_partial("koniq10k", "test", tmp_path, missing="keep")
    assert [(s.name, s.path and s.path.exists()) for s in split.samples] == [
        ("a.jpg", False),
        ("b.jpg", True),
    ]
    assert split.skipped == 0
    (tmp_path / "KonIQ-10k/512x384/b.jpg").unlink()
    assert len(load_partial("koniq10k", "test", tmp_path, missing="keep").samples) == 2


def test_missing_images_are_counted_and_named(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(8)]
    koniq(tmp_path, names, {"512x384": ["3.jpg"]})
    named = r"0\.jpg, 1\.jpg, 2\.jpg, 4\.jpg, 5\.jpg and 2 more"
    message = rf"koniq10k/official:test: 7 of 8 .*512x384\): {named}"
    with pytest.raises(InputError, match=message):
        load_partial("koniq10k", "test", tmp_path)
    split = load_partial("koniq10k", "test", tmp_path, missing="skip")
    assert (len(split.samples), split.skipped, split.samples[0].index) == (1, 7, 3)


def test_skipping_every_image_is_an_error(tmp_path: Path) -> None:
    koniq(tmp_path, ["a.jpg"], {})
    with pytest.raises(InputError, match="1 of 1 images"):
        load_partial("koniq10k", "test", tmp_path, missing="skip")


def test_a_digest_tells_a_set_with_skipped_images_apart(tmp_path: Path) -> None:
    koniq(tmp_path, ["a.jpg", "b.jpg"], {"512x384": ["a.jpg"]})
    part = load_partial("koniq10k", "test", tmp_path, missing="skip").digest
    write(tmp_path / "KonIQ-10k" / "512x384" / "b.jpg", "")
    assert load_partial("koniq10k", "test", tmp_path).digest != part


def test_label_files_that_lost_rows_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    koniq(tmp_path, ["a.jpg", "b.jpg"], {"512x384": ["a.jpg", "b.jpg"]})
    message = (
        r"KonIQ-10k: 2 labels, 10073 expected in .*KonIQ-10k\. Take .* data\.sets\.labels: partial"
    )
    with pytest.raises(InputError, match=message):
        load_split("koniq10k", "test", tmp_path)
    assert len(load_partial("koniq10k", "test", tmp_path).samples) == 2
    assert "koniq10k: 2 labels, 10073 expected (data.sets.labels: partial)" in caplog.text


def test_an_absent_folder_names_the_root_and_the_source(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=rf"KADID-10k not found under {tmp_path}.*Obtain it at http"
    ):
        load_partial("kadid10k", "train", tmp_path)
    with pytest.raises(InputError, match="not found under"):
        load_split("kadid10k", "train", tmp_path / "nowhere")


@pytest.mark.parametrize("place", ["LIVE-W/ChallengeDB_release", "ChallengeDB_release", "livew"])
def test_livew_is_found_in_several_layouts_with_its_mixed_extensions(
    tmp_path: Path, place: str
) -> None:
    folder = tmp_path / place
    release(folder, ["t1.bmp", "100.bmp", "5.JPG"], [50, 60, 70], [9, 10, 20])
    for name in ("trainingImages/t1.bmp", "100.bmp", "5.JPG"):
        write(folder / "Images" / name, "")
    assert [x.name for x in load_partial("livew", "test", tmp_path).samples] == ["100.bmp", "5.JPG"]
    whole = load_partial("livew/all1169", "test", tmp_path).samples
    assert [file_of(x).name for x in whole] == ["t1.bmp", "100.bmp", "5.JPG"]


def test_a_synthetic_set_is_read_from_its_own_folder(tmp_path: Path) -> None:
    folder = tmp_path / "synthetic-1a2b3c4d"
    rows = "".join(f"{i}.png,3,0.5,s{i},text\n" for i in range(5))
    write(folder / "labels.csv", "name,mos,std,reference,text\n" + rows)
    for i in range(5):
        write(folder / "images" / f"{i}.png", "")
    train = load_split("synthetic", "train", folder)
    test = load_split("synthetic", "test", folder)
    assert (train.name, len(train.samples), len(test.samples)) == ("reference-0", 4, 1)
    assert train.samples[0].texts == ("text",)


def test_a_csv_of_ones_own_has_paths_relative_to_itself(tmp_path: Path) -> None:
    far = tmp_path / "far" / "c.png"
    write(far, "")
    write(tmp_path / "sets" / "images" / "a.png", "")
    write(tmp_path / "b.png", "")
    path = tmp_path / "sets" / "mine.csv"
    write(path, f"image,mos\nimages/a.png,2\n../b.png,3\n{far},4\n")
    split = load_split(str(path), "train", tmp_path / "elsewhere")
    assert (split.dataset, split.name) == ("mine", "all")
    assert [os.path.realpath(file_of(x)) for x in split.samples] == [
        os.path.realpath(tmp_path / "sets" / "images" / "a.png"),
        os.path.realpath(tmp_path / "b.png"),
        os.path.realpath(far),
    ]
    assert len(load_split(f"{path}/random-0:test", "train", tmp_path).samples) == 1


def test_a_csv_that_names_an_absent_image(tmp_path: Path) -> None:
    write(tmp_path / "mine.csv", "image,mos\na.png,2\n")
    with pytest.raises(InputError, match=r"mine/all:train: 1 of 1 .*: a\.png"):
        load_split(str(tmp_path / "mine.csv"), "train", tmp_path)


def test_a_part_without_an_image_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.png", "")
    write(tmp_path / "mine.csv", "image,mos\na.png,2\n")
    with pytest.raises(InputError, match="mine/random-0:train has no image"):
        load_split(f"{tmp_path}/mine.csv/random-0", "train", tmp_path)


def test_entry_of_a_csv_looks_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "mine.csv", "image,mos\n")
    entry, root = entry_of(str(tmp_path / "mine.csv"), Path("data"))
    assert (entry.name, root) == ("mine", tmp_path)


# Real archives.


def test_agiqa_real(shared: Path) -> None:
    split = load_split("agiqa3k", "test", shared / "data")
    assert len(split.samples) == 2982
    assert split.digest == find("agiqa3k").digest
    mos = np.array([sample.mos for sample in split.samples])
    assert (mos.min(), mos.max()) == (1.0, 5.0)
    assert all(file_of(sample).is_file() for sample in split.samples)


def test_livew_real_subset(shared: Path) -> None:
    with pytest.raises(InputError, match=r"livew/official:test: 507 of 1162 images .*: 100\.bmp"):
        load_split("livew", "test", shared / "data")
    split = load_split("livew", "test", shared / "data", missing="skip")
    assert (len(split.samples), split.skipped) == (655, 507)
    assert sum(sample.name.endswith(".JPG") for sample in split.samples) == 627
    whole = load_split("livew/all1169", "test", shared / "data", missing="skip")
    assert file_of(whole.samples[0]).parent.name == "trainingImages"
    assert (len(whole.samples), whole.skipped) == (656, 513)


@pytest.mark.parametrize(("name", "count"), [("koniq10k/all", 19), ("kadid10k", 5), ("tid2013", 6)])
def test_real_samples_of_other_archives(shared: Path, name: str, count: int) -> None:
    split = load_split(name, "test", shared / "data", missing="skip")
    assert len(split.samples) == count


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8-sig").splitlines()


def test_real_label_files_that_lost_or_changed_something(shared: Path, tmp_path: Path) -> None:
    agiqa, tid = shared / "data/AGIQA-3K/data.csv", shared / "data/TID2013/mos_with_names.txt"
    whole = lines_of(agiqa)
    # A stray quote takes the rows up to the next quote, as if they were one cell.
    quote = [*whole[:1000], whole[1000].replace(",", ',"', 1), *whole[1001:]]
    for lines, message in (
        (whole[:-1], "2981 labels, 2982 expected"),
        (quote, "line 1001: no CSV row|line 1001: prompt continues over"),
        ([*whole[:-1], whole[-1].replace("_", "-", 1)], "names or scores .* differ"),
        ([*whole, whole[-1]], "two labels for"),
        ([f"{line},{line.split(',')[-4]}" for line in whole], "two columns are called mos_quality"),
    ):
        write(tmp_path / "AGIQA-3K" / "data.csv", "\n".join(lines))
        with pytest.raises(InputError, match=message):
            load_split("agiqa3k", "test", tmp_path, missing="keep")
    write(tmp_path / "tid2013" / tid.name, lines_of(tid)[0])
    with pytest.raises(InputError, match="TID2013: 1 labels, 3000 expected"):
        load_split("tid2013", "test", tmp_path, missing="keep")


def test_pipal_is_whole_with_its_training_part_alone(shared: Path, tmp_path: Path) -> None:
    train = lines_of(shared / "data/PIPAL/maniqa_pipal22_train.txt")
    write(tmp_path / "PIPAL" / "Train_Label" / "all.txt", "\n".join(train))
    split = load_split("pipal", "train", tmp_path, missing="keep")
    assert len(split.samples) == 23200
    write(tmp_path / "PIPAL" / "Train_Label" / "all.txt", train[0])
    with pytest.raises(InputError, match="PIPAL: 1 labels, 24200 or 23200 expected"):
        load_split("pipal", "train", tmp_path, missing="keep")


def test_koniqs_other_file_is_counted(shared: Path, tmp_path: Path) -> None:
    rows = [line.split(",") for line in lines_of(shared / "data/KonIQ-10k" / FILES[0])[1:]]
    header = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,MOS_zscore"
    # Its z-scores were not at hand, so nothing is said of them, but all rows must be there.
    lines = [header, *(",".join([*row[:7], "3", row[8], row[7]]) for row in rows)]
    write(tmp_path / "koniq10k" / FILES[1], "\n".join(lines))
    assert len(load_split("koniq10k/all", "test", tmp_path, missing="keep").samples) == 10073
    write(tmp_path / "koniq10k" / FILES[1], "\n".join(lines[:-1]))
    with pytest.raises(InputError, match="10072 labels, 10073 expected"):
        load_split("koniq10k/all", "test", tmp_path, missing="keep")
