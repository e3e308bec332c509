"""Every label file in its authors' form, with its trap."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from archives import live2, release, workbook, write
from scipy.io import savemat

from lit_biqa.data.readers import (
    agiqa3k,
    csiq,
    kadid10k,
    koniq10k,
    liver2,
    livew,
    pipal,
    spaq,
    synthetic,
    tid2013,
)
from lit_biqa.data.readers.entry import Entry, Label
from lit_biqa.types import InputError


def scores(entry: Entry, labels: list[Label]) -> dict[str, float]:
    return {label.name: entry.mos(label)[0] for label in labels}


# KonIQ-10k: two scales called MOS.

SETS = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set\n"


def test_koniq_scales_mos_and_deviation_each_by_the_range_of_its_own_scale(tmp_path: Path) -> None:
    rows = (
        "a.jpg,0,0,0,1,0,100,88.3888888889,1.0,training\nb.jpg,0,0,1,0,0,9,46.150326797,0.5,test\n"
    )
    folder = write(tmp_path / koniq10k.FILES[0], SETS + rows)
    first, second = koniq10k.read(folder)
    assert (first.part, second.part) == ("training", "test")
    assert koniq10k.ENTRY.mos(first) == pytest.approx((5.0, 4 / (4.31 - 1.0961538461536)))
    assert koniq10k.ENTRY.mos(second) == pytest.approx((3.0, 2 / (4.31 - 1.0961538461536)))


def test_koniq_reads_zscores_from_the_file_whose_mos_is_on_1_to_5(tmp_path: Path) -> None:
    header = '"image_name","c1","c2","c3","c4","c5","c_total","MOS","SD","MOS_zscore"\n'
    folder = write(tmp_path / koniq10k.FILES[1], header + '"a.jpg",0,0,25,73,7,105,3.8,0.5,77.38\n')
    (label,) = koniq10k.read(folder)
    assert label.mos == 77.38
    assert label.part is None


def test_koniq_refuses_mos_on_1_to_5_where_zscores_are_promised(tmp_path: Path) -> None:
    folder = write(tmp_path / koniq10k.FILES[0], SETS + "a.jpg,0,0,0,1,0,9,3.8,0.5,training\n")
    (label,) = koniq10k.read(folder)
    with pytest.raises(InputError, match=r"a\.jpg has the score 3\.8, outside .*another scale"):
        koniq10k.ENTRY.mos(label)


def test_koniq_refuses_a_deviation_beyond_1_to_5(tmp_path: Path) -> None:
    folder = write(tmp_path / koniq10k.FILES[0], SETS + "a.jpg,0,0,0,1,0,9,77.4,14.2,training\n")
    with pytest.raises(InputError, match=r"line 2: SD is 14\.2"):
        koniq10k.read(folder)


# SPAQ: a workbook without deviations.


def test_spaq_reads_the_first_sheet_and_knows_no_deviation(tmp_path: Path) -> None:
    header = ("Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness")
    rows = [header, ("00001.jpg", 2, 1, 1, 1, 1), ("00002.jpg", 49.0, 1, 1, 1, 1)]
    workbook(tmp_path / "Annotations" / "MOS and Image attribute scores.xlsx", rows)
    first, second = spaq.read(tmp_path)
    assert spaq.ENTRY.mos(first)[0] == 1.0
    assert spaq.ENTRY.mos(second)[0] == 3.0
    assert math.isnan(spaq.ENTRY.mos(first)[1])


def test_a_broken_workbook_is_named(tmp_path: Path) -> None:
    write(tmp_path / "Annotations" / "MOS and Image attribute scores.xlsx", "no workbook")
    with pytest.raises(InputError, match=r"scores\.xlsx cannot be read as an \.xlsx"):
        spaq.read(tmp_path)


def test_a_workbook_without_the_columns_says_which_are_expected(tmp_path: Path) -> None:
    path = tmp_path / "Annotations" / "MOS and Image attribute scores.xlsx"
    workbook(path, [("Image", "Score"), ("a.jpg", 3)])
    with pytest.raises(InputError, match=r"no header with the columns Image name, MOS"):
        spaq.read(tmp_path)


# KADID-10k: dmos that is a MOS, var that is a variance.


def test_kadid_takes_the_root_of_the_variance_and_does_not_turn_the_scale(tmp_path: Path) -> None:
    rows = "dist_img,ref_img,dmos,var\r\nI01_01_01.png,I01.png,4.93,0.25\r\nb.png,I01.png,1,0\r\n"
    best, worst = kadid10k.read(write(tmp_path / "dmos.csv", rows))
    assert kadid10k.ENTRY.mos(best) == pytest.approx((5.0, 4 * 0.5 / 3.93))
    assert kadid10k.ENTRY.mos(worst) == (1.0, 0.0)
    assert best.groups == {"reference": "I01.png"}


def test_kadid_refuses_a_negative_variance(tmp_path: Path) -> None:
    folder = write(tmp_path / "dmos.csv", "dist_img,ref_img,dmos,var\na.png,I.png,4,-0.1\n")
    with pytest.raises(InputError, match=r"line 2: var is '-0\.1', .*not below 0"):
        kadid10k.read(folder)


# PIPAL: one text file per reference, validation scores beyond the training scores.


def test_pipal_reads_both_parts_onto_one_scale(tmp_path: Path) -> None:
    write(tmp_path / "Train_Label" / "A0001.txt", "A0001_00_00.bmp,1520.0648\n")
    write(tmp_path / "Val_Label" / "A0005.txt", "A0005_10_00.bmp, 868.2988\nA0005_10_02.bmp,1857\n")
    labels = pipal.read(tmp_path)
    assert [label.part for label in labels] == ["train", "val", "val"]
    assert labels[0].groups == {"reference": "A0001"}
    mos = scores(pipal.ENTRY, labels)
    assert (mos["A0005_10_00.bmp"], mos["A0005_10_02.bmp"]) == (1.0, 5.0)
    assert mos["A0001_00_00.bmp"] == pytest.approx(1 + 4 * 651.766 / 988.7012)


def test_pipal_names_the_line_of_another_form(tmp_path: Path) -> None:
    write(tmp_path / "MOS_Scores_train" / "A0001.txt", "A0001_00_00.bmp,1520\n\nA0001 1437\n")
    with pytest.raises(InputError, match=r"A0001\.txt, line 3: .*form name,Elo score"):
        pipal.read(tmp_path)


def test_pipal_without_labels_says_what_to_unpack(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no label files Train_Label"):
        pipal.read(tmp_path)


# LIVE In the Wild: seven images of another folder, two extensions.


def test_livew_tells_the_training_images_apart(tmp_path: Path) -> None:
    release(tmp_path, ["t1.bmp", "100.bmp", "5.JPG"], [3.42, 92.4319526627219, 50], [9, 10, 20])
    training, first, second = livew.read(tmp_path)
    assert (training.file, training.part) == ("trainingImages/t1.bmp", livew.TRAINING)
    assert (first.file, first.part) == ("", livew.RATED)
    assert livew.ENTRY.counted([training, first, second]) == [1, 2]
    assert livew.ENTRY.mos(first) == pytest.approx((5.0, 40 / 89.0119526627219))


def test_livew_files_of_different_lengths_are_an_error(tmp_path: Path) -> None:
    release(tmp_path, ["t1.bmp", "100.bmp"], [50], [9, 10])
    with pytest.raises(InputError, match=r"differ in length \(2, 1, 2\)"):
        livew.read(tmp_path)


def test_livew_a_variable_of_another_name_is_named(tmp_path: Path) -> None:
    release(tmp_path, ["t1.bmp"], [50], [9])
    savemat(tmp_path / "Data" / "AllMOS_release.mat", {"mos": [[50]]})
    with pytest.raises(InputError, match=r"variable 'AllMOS_release' expected; it has mos"):
        livew.read(tmp_path)


def test_livew_a_broken_mat_file_is_named(tmp_path: Path) -> None:
    release(tmp_path, ["t1.bmp"], [50], [9])
    (tmp_path / "Data" / "AllMOS_release.mat").write_bytes(b"no matlab")
    with pytest.raises(InputError, match=r"AllMOS_release\.mat cannot be read as a MATLAB file"):
        livew.read(tmp_path)


# AGIQA-3k: commas in prompts, a scale from 0.


def test_agiqa_survives_commas_in_prompts(tmp_path: Path) -> None:
    header = "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align\r\n"
    rows = 'sd1.5_normal_7.jpg,"a cat, a dog, 3d",,,,4.488740784,0.5,1,1\r\n'
    rows += "b.jpg,plain,,,,0,0.1,1,1\r\n"
    best, worst = agiqa3k.read(write(tmp_path / "data.csv", header + rows))
    assert agiqa3k.ENTRY.mos(best) == pytest.approx((5.0, 2 / 4.488740784))
    assert agiqa3k.ENTRY.mos(worst)[0] == 1.0
    assert best.groups == {"generator": "sd1.5_normal", "prompt": "a cat, a dog, 3d"}
    assert tuple(best.groups) == agiqa3k.ENTRY.groups


# CSIQ: scores turned round, names made up.

CSIQ_HEADER = (None, None, None, "image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos")
CSIQ_ROWS = [
    (None,) * 9,
    (None,) * 9,
    (None,) * 9,
    CSIQ_HEADER,
    (None, None, None, 1600, 1, "noise", 1, 0.1, 0.0),
    (None, None, None, 1600, 3, "jpeg 2000", 2, 0.1, 1.0),
    (None, None, None, "woman", 6, "contrast", 4, 0.2, 0.25),
]


@pytest.mark.parametrize("file", ["csiq.DMOS.xlsx", "csiq.beta.xlsx"])
def test_csiq_makes_names_and_turns_the_scale(tmp_path: Path, file: str) -> None:
    labels = csiq.read(workbook(tmp_path / file, CSIQ_ROWS, "all_by_image"))
    assert [label.file for label in labels] == [
        "awgn/1600.AWGN.1.png",
        "jpeg2000/1600.jpeg2000.2.png",
        "contrast/woman.contrast.4.png",
    ]
    assert labels[0].groups == {"reference": "1600"}
    assert [csiq.ENTRY.mos(label) for label in labels] == [(5.0, 0.4), (1.0, 0.4), (4.0, 0.8)]


def test_csiq_reads_the_newer_workbooks_word_for_noise(tmp_path: Path) -> None:
    rows = [CSIQ_HEADER, (None, None, None, "woman", 1, "awgn", 1.0, 0.1, 0.5)]
    (label,) = csiq.read(workbook(tmp_path / "csiq.DMOS.xlsx", rows, "all_by_image"))
    assert label.file == "awgn/woman.AWGN.1.png"


def test_csiq_refuses_an_unknown_distortion(tmp_path: Path) -> None:
    rows = [CSIQ_HEADER, (None, None, None, "woman", 1, "fog", 1, 0.1, 0.5)]
    with pytest.raises(InputError, match=r"row 2: dst_type 'fog' is none of"):
        csiq.read(workbook(tmp_path / "csiq.DMOS.xlsx", rows, "all_by_image"))


def test_csiq_refuses_a_workbook_without_its_sheet(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no sheet 'all_by_image'; it has data"):
        csiq.read(workbook(tmp_path / "csiq.DMOS.xlsx", CSIQ_ROWS, "data"))


# TID2013: the score stands first, names of mixed case.


def test_tid_reads_score_then_name(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "mos_with_names.txt", "7.21429 I01_01_1.bmp\r\n0.24242 i25_11_1.BMP\r\n"
    )
    best, worst = tid2013.read(folder)
    assert [label.groups["reference"] for label in (best, worst)] == ["I01", "I25"]
    assert (tid2013.ENTRY.mos(best)[0], tid2013.ENTRY.mos(worst)[0]) == (5.0, 1.0)
    assert math.isnan(best.std)


# LIVE release 2: undistorted copies among the entries, DMOS beyond 0..100.


def test_live2_leaves_undistorted_copies_out(tmp_path: Path) -> None:
    dmos, copies = np.linspace(-2.64, 111.77, 982), np.zeros(982)
    copies[[0, 227]] = 1
    live2(tmp_path, dmos, copies)
    labels = liver2.read(tmp_path)
    assert len(labels) == 980
    assert (labels[0].name, labels[226].name) == ("jp2k/img2.bmp", "jpeg/img2.bmp")
    assert (labels[-1].name, labels[-1].groups) == (
        "fastfading/img174.bmp",
        {"reference": "bikes.bmp"},
    )
    assert liver2.ENTRY.mos(labels[-1])[0] == pytest.approx(1.0, abs=1e-3)
    assert math.isnan(labels[0].std)


# The synthetic set.


def test_synthetic_merges_the_texts_of_an_image(tmp_path: Path) -> None:
    rows = "name,mos,std,reference,text\na.png,2.5,0.4,s0,first\na.png,2.5,0.4,s0,second\n"
    (label,) = synthetic.read(write(tmp_path / "labels.csv", rows))
    assert (label.mos, label.std, label.groups) == (2.5, 0.4, {"reference": "s0"})
    assert label.texts == ("first", "second")
