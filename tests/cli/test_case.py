"""One image through a model that writes, one of words and a scorer, to Markdown, CSV and figure."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import runs
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]
from scripted import ANSWERS, CAPTIONS, THOUGHTS, script
from test_rating_studies import rated

from lit_biqa.analysis.case import Case, level_word
from lit_biqa.backbones.tiny import TinyClip
from lit_biqa.cli import case
from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import PrototypeHead
from lit_biqa.scoring.scorer import load_scorer, write_scorer

REFERENCE = "The street is dark and its edges are blurry."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration, a scorer's run and a picture."""
    folder = tmp_path_factory.mktemp("case")
    runs.write_settings(folder / "writer.yaml", rated(folder))
    encoder = TinyClip(dim=8, width=16, size=32, context=16)
    encoder.load()
    head = PrototypeHead(8, HeadSettings(pca=4, prototypes=4, buckets=2))
    (folder / "rali").mkdir()
    file = folder / "rali" / "scorer.safetensors"
    write_scorer(file, encoder.image_tower.state_dict(), head, encoder.settings())
    return folder


def test_every_model_says_its_piece(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script(monkeypatch, [ANSWERS[1]])
    (tmp_path / "note.txt").write_text(REFERENCE)
    picture, models = folder / "test-0.png", (folder / "writer.yaml", folder / "rali")
    out = tmp_path / "out"
    more = ["--condition", "image", "--reference", str(tmp_path / "note.txt"), "A red dog. " * 40]
    arguments = [str(picture), "--models", *map(str, models), "--out", str(out), "--mos", "2.4"]
    assert case.main([*arguments, *more]) == 0
    with (out / "case.csv").open(newline="") as file:
        writer, scorer = csv.DictReader(file)
    assert (writer["caption"], writer["reasoning"]) == (CAPTIONS[1], THOUGHTS[1])
    assert (float(writer["score"]), writer["level"]) == (2.5, "poor")
    text = f"{CAPTIONS[1]} {THOUGHTS[1]}"
    expected = RougeScorer(["rouge1"]).score(REFERENCE, text)["rouge1"].fmeasure
    assert float(writer["rouge1_f"]) == pytest.approx(expected, abs=1e-5)
    alone = float(load_scorer(folder / "rali")(picture))
    assert float(scorer["score"]) == pytest.approx(alone, abs=1e-5)
    assert (scorer["reasoning"], scorer["rouge1_f"]) == ("", "")
    page = (out / "case.md").read_text()
    assert "# test-0.png, MOS 2.40" in page
    assert f"## writer.yaml: rating 2.50 (poor), ROUGE-1 {expected:.3f}" in page
    assert f"> {THOUGHTS[1]}" in page
    assert (out / "image.png").exists()
    assert (out / "case.png").read_bytes().startswith(b"\x89PNG")
    assert "rali: rating" in capsys.readouterr().out
    assert case.main([*arguments, "--mos", "0.97"]) == 2
    assert "is not replaced" in capsys.readouterr().err


def test_bad_input(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(image: Path, model: Path) -> str:
        arguments = [str(image), "--models", str(model), "--out", str(tmp_path / "out")]
        assert case.main(arguments) == 2
        return capsys.readouterr().err

    arguments = [str(folder / "test-0.png"), "--models", str(folder / "rali"), "--mos", "0.97"]
    assert case.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert "--mos is 0.97: give 1 to 5" in capsys.readouterr().err
    assert "absent.png" in said(tmp_path / "absent.png", folder / "rali")
    assert "neither config.yaml nor scorer" in said(folder / "test-0.png", tmp_path)


def test_a_missing_score_is_told() -> None:
    assert Case("m", "image", math.nan, "", "no rating").headline == "no rating"
    assert (level_word(math.nan), level_word(5.3), level_word(1.0)) == ("", "excellent", "bad")
