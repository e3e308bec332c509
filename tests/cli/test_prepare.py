"""The table of what is right and what is missing, and the exit status."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from lit_biqa.cli import prepare
from lit_biqa.data.readers.entry import Entry, Label

HEADER = "name,prompt,mos_quality,std_quality\n"


def agiqa(root: Path, count: int) -> Path:
    folder = root / "AGIQA-3K"
    folder.mkdir()
    rows = "".join(f"{i}.jpg,a cat,{i % 4},0.5\n" for i in range(count))
    (folder / "data.csv").write_text(HEADER + rows, encoding="utf-8")
    for i in range(count):
        Image.new("RGB", (4, 4)).save(folder / f"{i}.jpg")
    return folder


def test_what_is_missing_and_altered_is_told(tmp_path: Path) -> None:
    folder = agiqa(tmp_path, 5)
    (folder / "3.jpg").unlink()
    finding = prepare.check("agiqa3k", tmp_path, decode=False)
    assert finding.cells[0] == "5 of 2982"
    assert finding.cells[1].endswith(" differs")
    assert finding.cells[2].startswith("all:test 5 @")
    assert finding.cells[3:] == ("4 of 5", "-")
    assert finding.faults[0] == "5 labels, 2982 expected"
    assert finding.faults[1] == "1 images missing: 3.jpg"
    assert finding.source.startswith("https://")


def test_labels_are_compared_with_derived_lists_where_there_is_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Mine" / "images").mkdir(parents=True)
    labels = [Label("a.jpg", 2.0), Label("b.jpg", 96.0)]
    entry = Entry("mine", "Mine", "https://", ("Mine",), (("images",),), lambda _: labels, 2, 2, 96)

    def told(entry: Entry) -> str:
        monkeypatch.setattr(prepare, "entry_of", lambda name, root: (entry, root))
        finding = prepare.check("mine", tmp_path, decode=False)
        assert finding.faults == ["2 images missing: a.jpg, b.jpg"]
        return finding.cells[1]

    mark = entry.mark(labels)
    assert told(entry) == f"{mark} not compared"
    assert told(replace(entry, digest=mark)) == f"{mark} ok"
    derived = f"{mark} as lists derived from the authors'"
    assert told(replace(entry, derived_digest=mark)) == derived
    other = f"{mark} differs from lists derived from the authors'"
    assert told(replace(entry, derived_digest="12345678")) == other


def test_decoding_finds_images_that_a_backbone_cannot_take(tmp_path: Path) -> None:
    folder = agiqa(tmp_path, 3)
    Image.new("RGB", (6000, 20)).save(folder / "1.jpg")
    finding = prepare.check("agiqa3k", tmp_path, decode=True)
    assert finding.cells[4] == "1"
    assert finding.faults[-1].endswith("1.jpg: 6000 x 20 pixels are too narrow for Qwen2.5-VL")


def test_decoding_finds_truncated_images(tmp_path: Path) -> None:
    folder = agiqa(tmp_path, 6)
    whole = (folder / "0.jpg").read_bytes()
    for i in range(4):
        (folder / f"{i}.jpg").write_bytes(whole[: len(whole) // 2])
    finding = prepare.check("agiqa3k", tmp_path, decode=True)
    assert finding.cells[4] == "4"
    assert "0.jpg" in finding.faults[1]
    assert finding.faults[-1] == "1 more unreadable"


def test_a_csv_of_ones_own_is_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "mine.csv").write_text("image,mos\na.png,3\n", encoding="utf-8")
    assert prepare.main(["--decode", str(tmp_path / "mine.csv")]) == 0
    assert "complete" in capsys.readouterr().out


def test_one_table_over_all_sets_says_where_each_is_obtained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare.main(["--root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for name in ("koniq10k", "spaq", "kadid10k", "pipal", "livew", "csiq", "tid2013", "liver2"):
        assert name in shown
    assert "https://github.com/h4nwei/SPAQ" in shown
    assert "synthetic" not in shown


def test_the_status_is_1_where_a_named_set_is_incomplete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare.main(["--root", str(tmp_path), "kadid10k"]) == 1
    assert "KADID-10k not found under" in capsys.readouterr().out


def test_the_status_is_2_where_the_name_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare.main(["--root", str(tmp_path), "kadid"]) == 2
    assert "Did you mean kadid10k" in capsys.readouterr().err


def test_a_label_file_on_another_scale_is_a_fault(tmp_path: Path) -> None:
    folder = agiqa(tmp_path, 1)
    (folder / "data.csv").write_text(HEADER + "0.jpg,a cat,73,2\n", encoding="utf-8")
    (fault,) = prepare.check("agiqa3k", tmp_path, decode=False).faults
    assert "another scale" in fault


def test_real_archives(shared: Path) -> None:
    root = shared / "data"
    assert prepare.check("agiqa3k", root, decode=False).faults == []
    for name, count in {"koniq10k": 10073, "kadid10k": 10125, "tid2013": 3000, "csiq": 866}.items():
        finding = prepare.check(name, root, decode=False)
        assert finding.cells[0] == f"{count} of {count}"
        assert finding.cells[1].endswith(" ok")
        assert finding.faults[0].endswith("...")
        assert len(finding.faults) == 1
    live = prepare.check("livew", root, decode=False)
    assert live.cells[3] == "655 of 1162"
    assert live.faults == ["507 images missing: 100.bmp, 101.bmp, 102.bmp ..."]
