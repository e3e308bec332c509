"""The command `score`: what it prints, writes and refuses."""

from __future__ import annotations

import ast
import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_biqa.__main__ import main as lit_biqa_main
from lit_biqa.backbones.tiny import TinyClip
from lit_biqa.cli import score
from lit_biqa.evaluation.metrics import Correlations
from lit_biqa.evaluation.report import Result, write_results
from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import PrototypeHead
from lit_biqa.scoring.scorer import load_scorer, write_scorer
from lit_biqa.types import InputError

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def scorer_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    encoder = TinyClip(dim=16, width=8, size=32)
    encoder.load()
    generator = torch.Generator().manual_seed(0)
    head = PrototypeHead(16, HeadSettings(pca=8, prototypes=12, buckets=6, finetune=False))
    head.fit(torch.randn(60, 16, generator=generator), 1 + 4 * torch.rand(60, generator=generator))
    file = tmp_path_factory.mktemp("scorer") / "scorer.safetensors"
    write_scorer(file, encoder.image_tower.state_dict(), head, encoder.settings())
    return file.read_bytes()


@pytest.fixture
def here(tmp_path: Path, scorer_bytes: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a run and a folder of photographs, some of which are none."""
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    (run / "scorer.safetensors").write_bytes(scorer_bytes)
    values = np.random.default_rng(0).integers(0, 256, (4, 70, 90, 3), dtype=np.uint8)
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    for name, value in zip(("a.jpg", "b.PNG", "c.avif", "deep/d.bmp"), values, strict=True):
        Image.fromarray(value // 2 + np.uint8(name == "b.PNG") * 100).save(photos / name)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    (photos / "notes.txt").write_text("hello")
    (photos / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    Image.new("RGB", (1, 1)).save(photos / "pixel.png")
    (photos / ".hidden").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    return tmp_path


def lines_of(text: str) -> list[tuple[float, str]]:
    """Scores and paths of printed lines."""
    pairs = [line.split("  ", 1) for line in text.splitlines() if line[:1].isdigit()]
    return [(float(pair[0]), pair[1]) for pair in pairs if len(pair) == 2]


def test_every_file_of_a_folder_is_scored_or_named_with_its_reason(
    here: Path, capsys: Capture
) -> None:
    assert lit_biqa_main(["score", "photos"]) == 0
    printed, errors = capsys.readouterr()
    first, *_, last = printed.splitlines()
    assert first == "scorer: runs/first/scorer.safetensors, the newest in runs/"
    assert last == "4 scored, 4 not scored"
    names = ["photos/a.jpg", "photos/b.PNG", "photos/c.avif", "photos/deep/d.bmp"]
    assert [path for _, path in lines_of(printed)] == names
    expected = load_scorer("runs/first")(names).tolist()
    assert [shown for shown, _ in lines_of(printed)] == [round(value, 2) for value in expected]
    assert errors.splitlines() == [
        "not scored: photos/broken.jpg: not an image, or of a format that Pillow cannot read",
        "not scored: photos/notes.txt: .txt files are not read",
        "not scored: photos/phone.heic: HEIC needs the extra heic: pip install 'lit_biqa[heic]'",
        "not scored: photos/pixel.png: 1 x 1 pixels are too small to rate: the shorter side "
        "needs 8",
    ]


def test_sorted_and_written(here: Path, capsys: Capture) -> None:
    out = here / "made" / "out.csv"
    assert score.main(["photos", "--sort", "--csv", str(out)]) == 0
    printed = capsys.readouterr().out
    shown = lines_of(printed)
    assert len(shown) == 4
    assert [value for value, _ in shown] == sorted(value for value, _ in shown)
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "score", "status"]
    assert [row["path"] for row in rows[:4]] == [path for _, path in shown]
    assert [round(float(row["score"]), 2) for row in rows[:4]] == [value for value, _ in shown]
    assert [row["status"] == "ok" for row in rows] == [True] * 4 + [False] * 4
    assert {row["score"] for row in rows[4:]} == {"nan"}
    before = out.read_bytes()
    assert score.main(["photos", "--csv", str(out)]) == 2
    assert "out.csv exists and is not replaced" in capsys.readouterr().err
    assert out.read_bytes() == before


def test_files_folders_and_patterns_each_once(here: Path, capsys: Capture) -> None:
    Image.new("RGB", (9, 9)).save(here / "photos" / "x[1].jpg")
    given = ["photos/x[1].jpg", "photos/**/*.bmp", "photos/deep", str(here / "photos" / "*.avif")]
    assert score.main(given) == 0
    paths = [path for _, path in lines_of(capsys.readouterr().out)]
    assert paths == ["photos/x[1].jpg", "photos/deep/d.bmp", f"{here}/photos/c.avif"]


def test_the_newest_scorer_or_the_one_named(here: Path, capsys: Capture) -> None:
    (here / "runs" / "second").mkdir()
    shutil.copy(here / "runs/first/scorer.safetensors", here / "runs" / "second")
    os.utime(here / "runs/second/scorer.safetensors", (0, 0))
    for arguments, told in (
        ([], "runs/first/scorer.safetensors, the newest in runs/"),
        (["--scorer", "runs/second"], "runs/second/scorer.safetensors"),
        (["--scorer", "runs/second/scorer.safetensors"], "runs/second/scorer.safetensors"),
    ):
        assert score.main(["photos/a.jpg", *arguments]) == 0
        assert capsys.readouterr().out.splitlines()[0] == f"scorer: {told}"


def test_two_pictures_are_compared_beside_the_errors_of_the_test(
    here: Path, capsys: Capture
) -> None:
    two = ["photos/a.jpg", "photos/b.PNG"]
    low, high = sorted(load_scorer("runs/first")(two).tolist())
    better = two[int(load_scorer("runs/first")(two).argmax())]
    assert score.main(two) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        f"{better} is better by {high - low:.2f}; "
        "the scorer's error for such scores is not measured."
    )
    (here / "runs/first/test").mkdir()
    for error, size in ((9.0, "less than"), (0.001, "more than")):
        tested = Result("livew", "all@1", "image", Correlations(10, 0, 0.8, 0.7, rmse=error))
        write_results(here / "runs/first/test/results.csv", [tested])
        assert score.main(two) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith(f"{better} is better by {high - low:.2f}, {size} the scorer's error")
        assert last.endswith(f"{2**0.5 * error:.2f} (livew).")
        assert score.main([*two, "--crops", "2"]) == 0
        assert "for such scores is not measured" in capsys.readouterr().out
    for others in ([*two, "photos/c.avif"], ["photos/a.jpg", "photos/broken.jpg"]):
        assert score.main(others) == 0
        assert "better" not in capsys.readouterr().out


def test_crops_of_large_pictures(here: Path, capsys: Capture) -> None:
    """Each crop scores as the same pixels do alone: nothing is scaled."""
    Image.new("RGB", (40, 31)).save(here / "small.png")
    arguments = ["photos/a.jpg", "small.png", "--crops", "2", "--csv", "out.csv"]
    assert score.main(arguments) == 0
    image = Image.open("photos/a.jpg")  # 90 x 70, of which the scorer sees 32 x 32
    corners = [(0, 0), (58, 0), (0, 38), (58, 38)]
    crops = [image.crop((x, y, x + 32, y + 32)) for x, y in corners]
    scores = load_scorer("runs/first")(crops).double().numpy()
    printed = capsys.readouterr().out.splitlines()
    assert printed[1] == f"{scores.mean():.2f} ± {scores.std():.2f}  photos/a.jpg"
    assert printed[2].endswith("  small.png  (whole: smaller than a crop)")
    with Path("out.csv").open(newline="", encoding="utf-8") as file:
        large, small = csv.DictReader(file)
    assert list(large) == ["path", "score", "spread", "crops", "status"]
    assert float(large["score"]) == pytest.approx(scores.mean(), abs=1e-5)
    assert float(large["spread"]) == pytest.approx(scores.std(), abs=1e-5)
    assert (large["crops"], small["crops"], small["spread"]) == ("4", "0", "nan")


WRONG = {
    "absent.jpg": "absent.jpg: no such file or folder",
    "photos/a.jpg absent/*.jpg": r"absent/*.jpg: no file matches this pattern",
    "empty": "empty: this folder has no file",
    "photos --crops 1": "--crops 1: give 2 to 32",
    "photos --crops 99": "--crops 99: give 2 to 32",
    "photos --device gpu": "device 'gpu' cannot be used here",
    "photos --scorer absent": "absent: no such scorer",
    "photos --scorer photos": "photos is a folder without scorer.safetensors",
    "photos --scorer photos/a.jpg": "photos/a.jpg: broken scorer",
}


@pytest.mark.parametrize("command", WRONG)
def test_bad_input_is_one_line_and_status_2(here: Path, capsys: Capture, command: str) -> None:
    assert score.main(command.split()) == 2
    printed, errors = capsys.readouterr()
    assert errors.startswith("error: ") and WRONG[command] in errors and errors.count("\n") == 1
    assert "scored" not in printed


def test_without_any_run_the_command_that_trains_one_is_named(here: Path, capsys: Capture) -> None:
    shutil.rmtree(here / "runs")
    assert score.main(["photos"]) == 2
    assert "lit_biqa fit --config" in capsys.readouterr().err


def test_where_nothing_is_scored_the_status_is_2(here: Path, capsys: Capture) -> None:
    assert score.main(["photos/broken.jpg", "photos/notes.txt"]) == 2
    assert capsys.readouterr().out.splitlines()[-1] == "0 scored, 2 not scored"


def test_a_reader_that_has_enough_ends_it_quietly(here: Path) -> None:
    command = f"{sys.executable} -m lit_biqa score photos --sort 2>errors | head -c 1; cat errors"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout == "s"  # of "scorer:", and no traceback


def test_scoring_a_picture_imports_nothing_heavy(here: Path) -> None:
    """Start-up is what a person waits for: `tools/bench/bench.py startup` measures it."""
    code = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"
        "from lit_biqa.__main__ import main\n"
        "assert main(['score', 'photos/a.jpg', 'photos/b.PNG', '--csv', 'out.csv']) == 0\n"
        "new = set(sys.modules) - before\n"
        "print(sorted({name.split('.')[0] for name in new} - sys.stdlib_module_names))\n"
        "print(sorted(name for name in new if name.startswith('torch.distributed')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True
    )
    imported, distributed = done.stdout.splitlines()[-2:]
    pillow = {"PIL", "defusedxml"}  # the second where Pillow finds it
    assert set(ast.literal_eval(imported)) <= pillow | {"lit_biqa", "numpy", "safetensors", "torch"}
    assert distributed == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "a name is empty"),
        (["photos", "--scorer", ""], "the scorer's name is empty"),
        (["x" * 300], "longer than this file system takes"),
        (["photos", "--device", "meta"], "device 'meta' cannot be used here"),
    ],
)
def test_odd_names_are_told_in_one_line(
    arguments: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_a_batch_holds_a_picture(size: int, here: Path) -> None:
    scorer = load_scorer(next(here.rglob("scorer.safetensors")))
    with pytest.raises(InputError, match="batch_size is"):
        scorer([Image.new("RGB", (40, 40))], batch_size=size)
