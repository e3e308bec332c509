"""Named splits: official, listed by others, seeded by image and by reference."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest
from archives import write

from lit_biqa.data.catalog import find, load_split
from lit_biqa.data.readers import kadid10k, koniq10k, pipal
from lit_biqa.data.readers.entry import Entry, Label, digest
from lit_biqa.data.splits import PARTS, choose
from lit_biqa.types import InputError

HERE = Path()


def images(count: int, references: int = 0) -> list[Label]:
    source = [f"I{i % references:02}" if references else None for i in range(count)]
    return [
        Label(f"{i:03}.png", 3.0, groups={"reference": name} if (name := source[i]) else {})
        for i in range(count)
    ]


def names(entry: Entry, labels: list[Label], split: str, part: str, root: Path = HERE) -> set[str]:
    return {labels[row].name for row in choose(entry, labels, split, part, root)}


def test_digest_is_a_hash_of_sorted_names_and_mos() -> None:
    expected = hashlib.sha256(b"a.png 1.5000\nb.png 3.0000").hexdigest()[:8]
    assert digest([("B.png", 3.0), ("a.png", 1.5)]) == expected
    assert digest([("b.png", 3.0), ("a.png", 1.5001)]) != expected


def test_all_is_every_image_whatever_the_part() -> None:
    rows = [choose(find("agiqa3k"), images(7), "all", part, HERE) for part in ("train", "test")]
    assert rows == [list(range(7))] * 2


@pytest.mark.parametrize("seed", [0, 1])
def test_random_parts_hold_80_and_20_percent(seed: int) -> None:
    labels = images(101)
    train = names(find("agiqa3k"), labels, f"random-{seed}", "train")
    test = names(find("agiqa3k"), labels, f"random-{seed}", "test")
    assert (len(train), len(test)) == (81, 20)
    assert train.isdisjoint(test)


def test_seeds_differ_and_the_order_of_labels_does_not_matter() -> None:
    entry, labels = find("agiqa3k"), images(50)
    first = names(entry, labels, "random-0", "test")
    assert first == names(entry, labels[::-1], "random-0", "test")
    assert first != names(entry, labels, "random-1", "test")


def test_a_seeded_split_never_changes() -> None:
    """The rule itself, so that results of different releases stay comparable."""
    order = sorted("abcde", key=lambda name: hashlib.sha256(f"7/{name}".encode()).digest())
    labels = [Label(name, 3.0) for name in "abcde"]
    assert names(find("agiqa3k"), labels, "random-7", "test") == {order[0]}


def test_by_reference_no_source_is_on_both_sides() -> None:
    labels = images(200, references=10)
    entry = find("kadid10k")
    train, test = (choose(entry, labels, "reference-0", part, HERE) for part in ("train", "test"))
    sources = [{labels[row].groups["reference"] for row in rows} for rows in (train, test)]
    assert [len(rows) for rows in (train, test)] == [160, 40]
    assert sources[0].isdisjoint(sources[1])
    assert len(sources[1]) == 2


def test_references_that_differ_in_case_are_one() -> None:
    labels = [
        Label(f"{i}{case}", 3.0, groups={"reference": f"{case}{i}"})
        for i in range(5)
        for case in "iI"
    ]
    test = choose(find("tid2013"), labels, "reference-0", "test", HERE)
    assert len(test) == 2
    assert labels[test[0]].groups != labels[test[1]].groups


@pytest.mark.parametrize(("kind", "held"), [("generator", 2), ("prompt", 60)])
def test_whole_generators_or_prompts_of_agiqa_are_held_out(
    shared: Path, kind: str, held: int
) -> None:
    root = shared / "data"
    train, test = (load_split(f"agiqa3k/{kind}-0", part, root).samples for part in PARTS[::2])
    sides = [{sample.groups[kind] for sample in side} for side in (train, test)]
    assert sides[0].isdisjoint(sides[1])
    assert len(sides[1]) == held
    assert len(train) + len(test) == 2982


def test_by_group_is_by_the_first_kind_of_groups(shared: Path) -> None:
    for dataset, kind in (("agiqa3k", "generator"), ("csiq", "reference")):
        splits = [
            load_split(f"{dataset}/{name}-3", "test", shared / "data", missing="keep")
            for name in ("group", kind)
        ]
        assert splits[0].digest == splits[1].digest


def test_images_aside_are_in_no_split_that_does_not_name_them() -> None:
    labels = [Label("t1.bmp", 50, part="rater training"), Label("1.bmp", 50, part="rated")]
    assert names(find("livew"), labels, "all", "test") == {"1.bmp"}
    assert names(find("livew"), labels, "random-0", "test") == {"1.bmp"}
    assert names(find("livew"), labels, "all1169", "test") == {"t1.bmp", "1.bmp"}


@pytest.mark.parametrize(
    ("split", "part", "message"),
    [
        ("offical", "test", r"koniq10k has no split 'offical'; it has official, paper3015, all"),
        ("reference-0", "test", r"no split 'reference-0'"),
        ("random-x", "test", r"no split 'random-x'"),
        ("random-0", "val", r"no part 'val'; it has train, test\. Leave val unset"),
        ("paper3015", "val", r"'paper3015' has no part 'val'; it has train, test"),
        ("official", "test", r"label file names no image of part 'test'"),
    ],
)
def test_what_does_not_exist_is_refused(split: str, part: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose(find("koniq10k"), images(5), split, part, HERE)


def test_pipal_has_no_public_test_part() -> None:
    with pytest.raises(InputError, match=r"no part 'test'; it has train, val"):
        choose(pipal.ENTRY, images(3, 2), "official", "test", HERE)


# Q-Align's lists, which a user downloads.


def lists(root: Path, **files: object) -> None:
    for name, content in files.items():
        write(root / "splits" / "qalign" / f"{name}.json", json.dumps(content))


def test_qalign_lists_are_matched_by_file_name(tmp_path: Path) -> None:
    lists(
        tmp_path,
        train_koniq=[
            {"image": "koniq/000.png", "conversations": []},
            {"img_path": "koniq/002.PNG"},
        ],
        test_koniq=[{"image": "koniq/001.png", "gt_score": 3}],
    )
    assert names(koniq10k.ENTRY, images(4), "qalign", "train", tmp_path) == {"000.png", "002.png"}
    assert names(koniq10k.ENTRY, images(4), "qalign", "test", tmp_path) == {"001.png"}


def test_an_absent_list_says_where_it_is_and_what_is_possible(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train_koniq\.json, which is absent\. Download it from"):
        choose(koniq10k.ENTRY, images(4), "qalign", "train", tmp_path)
    lists(tmp_path, test_koniq=[{"image": "koniq/001.png"}])
    with pytest.raises(InputError, match=r"The lists there serve part test"):
        choose(koniq10k.ENTRY, images(4), "qalign", "train", tmp_path)


def test_a_list_of_strange_images_is_refused(tmp_path: Path) -> None:
    lists(tmp_path, test_koniq=[{"image": "spaq/1.jpg"}, {"image": "spaq/2.jpg"}])
    with pytest.raises(
        InputError, match=r"names 2 images that KonIQ-10k has no label for, .*1\.jpg"
    ):
        choose(koniq10k.ENTRY, images(4), "qalign", "test", tmp_path)


@pytest.mark.parametrize("content", [{"image": "a"}, [["a"]], [{"name": "a"}], 3])
def test_a_list_of_another_form_is_refused(tmp_path: Path, content: object) -> None:
    lists(tmp_path, test_koniq=content)
    with pytest.raises(InputError, match=r"test_koniq\.json: a JSON list of items"):
        choose(koniq10k.ENTRY, images(4), "qalign", "test", tmp_path)


def test_lists_have_no_part_for_validation(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'qalign' has no part 'val'; it has train, test"):
        choose(koniq10k.ENTRY, images(4), "qalign", "val", tmp_path)


def test_csiq_has_no_qalign_split_because_that_list_names_images_that_do_not_exist() -> None:
    with pytest.raises(InputError, match="csiq has no split 'qalign'"):
        choose(find("csiq"), images(4, 2), "qalign", "test", HERE)


# Lists with scores, and lists of DeQA-Score.


def deqa(root: Path, name: str, scores: dict[str, object]) -> None:
    items = [{"image": f"SET/images/{image}", "gt_score": s} for image, s in scores.items()]
    write(root / "splits" / "deqa" / f"{name}.json", json.dumps(items))


def rated(*scores: float) -> list[Label]:
    return [Label(f"{i}.png", score) for i, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("dataset", "part", "file"),
    [
        ("koniq10k", "train", "train_koniq_7k"),
        ("koniq10k", "test", "test_koniq_2k"),
        ("spaq", "test", "test_spaq_2k"),
        ("kadid10k", "test", "test_kadid_2k"),
        ("pipal", "train", "train_pipal_19k"),
        ("pipal", "test", "test_pipal_5k"),
        ("livew", "test", "test_livew_1k"),
        ("agiqa3k", "test", "test_agiqa_3k"),
        ("csiq", "test", "test_csiq_866"),
        ("tid2013", "test", "test_tid2013_3k"),
    ],
)
def test_deqa_metas_are_splits_of_every_set_of_theirs(
    dataset: str, part: str, file: str, tmp_path: Path
) -> None:
    """File names: DeQA-Score, scripts/train.sh and scripts/eval_score.sh."""
    entry = find(dataset)
    labels = rated(*(entry.low + share * (entry.high - entry.low) for share in (0.1, 0.5, 0.7)))
    with pytest.raises(InputError, match=rf"{file}\.json, which is absent"):
        choose(entry, labels, "deqa", part, tmp_path)
    deqa(tmp_path, file, {"2.png": labels[2].mos, "0.PNG": labels[0].mos})
    assert choose(entry, labels, "deqa", part, tmp_path) == [0, 2]


def test_scores_of_a_list_may_be_on_another_scale_or_inverted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = rated(1.2, 2.4, 3.1, 4.5)
    deqa(tmp_path, "test_kadid_2k", {label.name: 100 - 20 * label.mos for label in labels})
    assert choose(find("kadid10k"), labels, "deqa", "test", tmp_path) == [0, 1, 2, 3]
    assert not caplog.records


def test_other_ratings_of_the_same_images_are_told(
    shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """KonIQ's mean ratings beside its z-scores: they correlate by 0.9954 (10,073 images)."""
    labels = koniq10k.read(shared / "data" / "KonIQ-10k")
    file = shared / "data" / "KonIQ-10k" / koniq10k.FILES[0]
    with file.open(newline="") as opened:
        shares = {
            row["image_name"]: sum(i * float(row[f"c{i}"]) for i in range(1, 6))
            for row in csv.DictReader(opened)
        }
    deqa(tmp_path, "test_koniq_2k", dict(shares))
    assert len(choose(koniq10k.ENTRY, labels, "deqa", "test", tmp_path)) == 10073
    assert "correlate with those of KonIQ-10k by 0.9954" in caplog.text


def test_a_list_with_scores_of_other_images_is_refused(tmp_path: Path) -> None:
    labels = rated(1.2, 2.4, 3.1, 4.5)
    deqa(tmp_path, "test_kadid_2k", {f"{i}.png": labels[3 - i].mos + i % 2 for i in range(4)})
    with pytest.raises(InputError, match=r"its scores are not those of KADID-10k's label file"):
        choose(find("kadid10k"), labels, "deqa", "test", tmp_path)


@pytest.mark.parametrize(
    ("dataset", "file", "count"), [("agiqa3k", "agi", 2982), ("livew", "livec", 1169)]
)
def test_qalign_real_lists_of_sets_that_are_tested_whole(
    dataset: str, file: str, count: int, shared: Path, tmp_path: Path
) -> None:
    root = qalign_root(shared, tmp_path)
    assert (root / "splits" / "qalign" / f"{file}.json").is_file()
    entry = find(dataset)
    labels = entry.read(entry.folder(shared / "data"))
    assert len(choose(entry, labels, "qalign", "test", root)) == count


# Sizes of images.


def koniq(root: Path, *sizes: str) -> Path:
    head = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set\n"
    rows = [f"{i}.jpg,0,0,1,0,0,100,{10 + 20 * i},0.5,test" for i in range(3)]
    write(root / "koniq10k" / koniq10k.FILES[0], head + "\n".join(rows))
    for size in sizes:
        for i in range(3):
            write(root / "koniq10k" / size / f"{i}.jpg", "")
    return root


def test_a_split_names_the_size_of_its_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = koniq(tmp_path, "1024x768", "512x384")
    read = {}
    for spec in ("koniq10k", "koniq10k/official-512x384", "koniq10k/official-1024x768"):
        split = load_split(spec, "test", root, wanted="partial")
        read[spec] = {sample.path.parent.name for sample in split.samples if sample.path}
        assert {s.split for s in split.samples} == {f"{split.name}@{split.digest}"}
        assert split.dataset == "koniq10k"
    assert list(read.values()) == [{"1024x768"}, {"512x384"}, {"1024x768"}]
    told = [record for record in caplog.records if "images of 1024x768 are read" in record.message]
    assert len(told) == 1


def test_a_size_that_is_not_there_is_not_replaced_by_another(tmp_path: Path) -> None:
    root = koniq(tmp_path, "1024x768")
    with pytest.raises(InputError, match=r"3 of 3 images are not under .*looked in 512x384"):
        load_split("koniq10k/official-512x384", "test", root, wanted="partial")
    with pytest.raises(InputError, match=r"no split 'official-640x480'.*each as <split>-512x384"):
        load_split("koniq10k/official-640x480", "test", root, wanted="partial")


# Real label files.


def test_koniq_real_splits(shared: Path) -> None:
    labels = koniq10k.read(shared / "data" / "KonIQ-10k")
    official = {p: names(koniq10k.ENTRY, labels, "official", p) for p in ("train", "val", "test")}
    assert [len(part) for part in official.values()] == [7058, 1000, 2015]
    paper = {p: names(koniq10k.ENTRY, labels, "paper3015", p) for p in ("train", "test")}
    assert paper["train"] == official["train"]
    assert paper["test"] == official["val"] | official["test"]


def qalign_root(shared: Path, root: Path) -> Path:
    (root / "splits").mkdir()
    (root / "splits" / "qalign").symlink_to(shared / "data" / "splits" / "splits_qalign")
    return root


def test_qalign_real_test_list_of_koniq(shared: Path, tmp_path: Path) -> None:
    labels = koniq10k.read(shared / "data" / "KonIQ-10k")
    root = qalign_root(shared, tmp_path)
    test = names(koniq10k.ENTRY, labels, "qalign", "test", root)
    assert len(test) == 2010
    assert test < names(koniq10k.ENTRY, labels, "official", "test")


def test_qalign_real_test_list_of_kadid(shared: Path, tmp_path: Path) -> None:
    labels = kadid10k.read(shared / "data" / "KADID-10k")
    rows = choose(kadid10k.ENTRY, labels, "qalign", "test", qalign_root(shared, tmp_path))
    assert len(rows) == 2000
    assert len({labels[row].groups["reference"] for row in rows}) == 16
