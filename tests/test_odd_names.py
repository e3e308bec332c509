"""Names that no one chooses, and files have: no score is lost because of one."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from PIL import Image

from lit_biqa.__main__ import main
from lit_biqa.data.readers import csv_file
from lit_biqa.evaluation import report, store
from lit_biqa.evaluation.metrics import Correlations
from lit_biqa.io.files import as_utf8
from lit_biqa.types import Prediction

RECIPE = """
model: {class_path: dummy_method.Dummy}
data: {loader: {num_workers: 0, batch_size: 8}}
trainer: {accelerator: cpu, enable_model_summary: false}
report: {bootstrap: 0}
"""
BYTES = b"tr\xff\xe9s.png"  # Latin-1, as archives of others unpack
ESCAPED = r"tr\udcff\udce9s.png"


@pytest.fixture
def folder(working_folder: Path) -> Path:
    """A working directory with a recipe and three grey images in ``photos``."""
    Path("a.yaml").write_text(RECIPE)
    Path("photos").mkdir()
    for i in range(3):
        Image.new("L", (8, 8), 100 * i).save(f"photos/{i}.png")
    return working_folder


def run(command: str, *more: str) -> int:
    subcommand, *rest = command.split()
    return main([subcommand, "--config", "a.yaml", "--ckpt_path", "none", *rest, *more])


def lines(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_link_in_a_circle_and_a_name_of_bytes_are_rows_as_others_are(folder: Path) -> None:
    Path("photos/circle.png").symlink_to("circle.png")
    try:
        Path("photos/2.png").rename(Path("photos", os.fsdecode(BYTES)))
    except OSError:
        pytest.skip("this disk takes names in UTF-8 alone")
    Path(os.fsdecode(b"photos/dangling\xff.png")).symlink_to("nowhere")
    for _ in range(2):  # the second time the rows are found again, and none is added
        assert run("predict --run out --data.predict [photos]") == 0
        rows = {row["name"]: row for row in lines("out/predictions.csv")}
        assert len(lines("out/predictions.csv")) == len(rows) == 5
    assert {name for name, row in rows.items() if row["status"] == "ok"} == {
        "0.png",
        "1.png",
        ESCAPED,
    }
    assert float(rows[ESCAPED]["score"]) == float(rows[ESCAPED]["score"])  # no nan
    assert rows[ESCAPED]["path"] == str(folder.resolve() / "photos" / ESCAPED)
    assert "circle.png" in rows["circle.png"]["status"]
    assert "no such file" in rows[r"dangling\udcff.png"]["status"]


def test_a_run_folder_of_bytes_is_refused_before_anything_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(folder.iterdir())
    out = os.fsdecode(b"out\xff")
    assert run("predict --data.predict [photos] --run", out) == 2
    (error,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert r"out\udcff has a name that is not UTF-8: choose another --run folder" in error
    assert set(folder.iterdir()) == before


def test_a_data_set_is_called_by_a_name_that_every_file_of_results_takes(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"own\xff.csv")
    try:
        path.write_text("image,mos\n")
    except OSError:
        pytest.skip("this disk takes names in UTF-8 alone")
    assert csv_file.entry(path).name == r"own\udcff"


@pytest.mark.parametrize("text", ["\udcff", "\ud83d", "a\udc80b"])
def test_whatever_a_cell_holds_is_written(tmp_path: Path, text: str) -> None:
    report.write_csv(tmp_path / "x.csv", ["name"], [[text], ["bär 例"]])
    escaped = text.encode("ascii", "backslashreplace").decode()
    assert [row["name"] for row in lines(str(tmp_path / "x.csv"))] == [escaped, "bär 例"]
    assert as_utf8(text) == escaped
    row = Prediction(text, text, 0, text, 3.0, 2.0, status=text)
    assert set(store.cells_of(row, "aa", path=text).values()) >= {escaped}
    for _ in range(2):
        store.merge_predictions(tmp_path / "p.csv", [store.cells_of(row, "aa")], store.by_image)
    assert len(store.read_predictions(tmp_path / "p.csv")) == 1
    report.write_results(
        tmp_path / "results.csv", [report.Result(text, "-", "image", Correlations(3, 0))]
    )
    assert [r.dataset for r in report.read_results(tmp_path / "results.csv")] == [escaped]
