"""Studies of runs that rate, from their folder to files; the engine answers by script."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import runs
from scripted import script

from lit_biqa.analysis.tsne_states import read_states
from lit_biqa.backbones.tiny import TinyClip
from lit_biqa.cli import analyse
from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import PrototypeHead
from lit_biqa.scoring.scorer import write_scorer


def rated(folder: Path) -> dict[str, Any]:
    """Settings of a little SFT that rates, tested on seven images of noise."""
    init = {"width": 32, "layers": 2}
    rated = {"class_path": "lit_biqa.readouts.Rated", "init_args": {"sampling": {"budget": 64}}}
    words = {"class_path": "lit_biqa.readouts.levels.LevelLogits", "init_args": {"condition": "w"}}
    return {
        "seed_everything": 0,
        "model": {
            "class_path": "lit_biqa.methods.sft.SFT",
            "init_args": {
                "backbone": {
                    "class_path": "lit_biqa.backbones.tiny_chat.TinyQwenVL",
                    "init_args": init,
                },
                "task": {"class_path": "lit_biqa.tasks.Imitate"},
                "readouts": [words, rated],
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.001}},
            },
        },
        "data": {
            "test": [str(runs.write_images(folder, "test", 7, 2))],
            "loader": {"num_workers": 0, "eval_batch_size": 3},
        },
        "trainer": {"precision": "32-true"},
        "report": {"bootstrap": 0},
    }


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rated")
    return runs.write_settings(folder / "config.yaml", rated(folder))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def arguments(config: Path, out: Path, study: str, *more: str) -> list[str]:
    return [study, "--config", str(config), "--ckpt_path", "none", "--out", str(out), *more]


def test_score_attention_of_an_image_and_of_a_text(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script(monkeypatch)
    out = tmp_path / "image"
    assert analyse.main(arguments(config, out, "score-attention", "--samples", "5")) == 0
    rows = table(out / "score_attention.csv")
    assert sum(float(row["share_mean"]) for row in rows[:5]) == pytest.approx(1, abs=1e-5)
    names = [row["name"] for row in table(out / "score_causes.csv")]
    assert len(names) == 4  # the first of five only lends
    assert names != sorted(names)  # neighbours in a data set may share their content
    pictures = {path.stem for path in out.glob("*.png")}
    assert pictures == {"score_attention", "score_attention_words", "score_causes"}
    assert "rating with no image" in capsys.readouterr().out
    more = ("--samples", "3", "--condition", "text")
    assert analyse.main(arguments(config, tmp_path / "text", "score-attention", *more)) == 0
    assert not (tmp_path / "text" / "score_causes.csv").exists()


def test_a_readout_of_another_kind_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = arguments(config, tmp_path, "score-attention", "--condition", "w")
    assert analyse.main(wrong) == 2
    told = capsys.readouterr().err
    assert "LevelLogits reads no rating in a written answer" in told
    assert "(image, text)" in told
    assert analyse.main(arguments(config, tmp_path, "attention", "--condition", "image")) == 2
    assert "Rated reads no quality word" in capsys.readouterr().err


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two data sets of 12 images, about which the model answers by script."""
    script(monkeypatch)
    return [str(runs.write_images(tmp_path / name, name, 12, 3)) for name in ("one", "two")]


def tsne(config: Path, out: Path, *more: str) -> int:
    return analyse.main(arguments(config, out, "tsne", "--text-encoder", "none", *more))


def test_tsne_of_two_sets(
    config: Path, sets: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert tsne(config, out, f"--data.test=[{','.join(sets)}]") == 0
    assert "reasoning, last layer" in capsys.readouterr().out
    assert len(table(out / "tsne.csv")) == 3 * 24
    probes = table(out / "tsne_probes.csv")
    assert [row["dataset"] for row in probes] == ["one", "two", "all"] * 3
    assert (out / "tsne.png").exists()
    assert tsne(config, tmp_path / "few", "--samples", "7") == 2
    assert "a probe needs 10" in capsys.readouterr().err


def test_tsne_beside_another_run(
    config: Path, sets: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (f"--data.test=[{images}]" for images in sets)
    beside = ("--beside", str(tmp_path / "one"))
    assert tsne(config, tmp_path / "one", one) == 0
    assert tsne(config, tmp_path / "both", two, *beside) == 0
    assert "12 images by TinyQwenVL (image)" in capsys.readouterr().out
    places = table(tmp_path / "both" / "tsne.csv")
    assert [row["dataset"] for row in places] == (["two"] * 12 + ["one"] * 12) * 3
    rows = table(tmp_path / "both" / "tsne_probes.csv")
    assert [(row["dataset"], row["images"]) for row in rows[:3]] == [
        *(("one", "12"), ("two", "12"), ("all", "24"))
    ]
    assert 0 <= float(rows[2]["told_apart"]) <= 1
    assert len(read_states(tmp_path / "both").results) == 12  # its own alone
    assert tsne(config, tmp_path / "again", one, *beside) == 2
    assert "both have images of one" in capsys.readouterr().err
    assert tsne(config, tmp_path / "wider", two, "--model.backbone.width", "64", *beside) == 2
    assert "64 numbers, those of TinyQwenVL (image) 32" in capsys.readouterr().err
    assert tsne(config, tmp_path / "none", two, "--beside", str(tmp_path)) == 2
    assert "no tsne_states.safetensors is there" in capsys.readouterr().err


def test_efficiency_beside_a_scorer(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script(monkeypatch)
    encoder = TinyClip(dim=8, width=16, size=32, context=16)
    encoder.load()
    head = PrototypeHead(8, HeadSettings(pca=4, prototypes=4, buckets=2))
    file = tmp_path / "scorer.safetensors"
    write_scorer(file, encoder.image_tower.state_dict(), head, encoder.settings())
    more = ("--scorer", str(file), "--batches", "1", "3", "--repeats", "2")
    out = tmp_path / "out"
    assert analyse.main(arguments(config, out, "efficiency", *more)) == 0
    rows = table(out / "efficiency.csv")
    assert [row["batch"] for row in rows] == ["1", "1", "3", "3", "1", "3"]
    assert float(rows[1]["tokens_per_image"]) > 10
    assert (out / "efficiency.png").exists()
    assert "batch of 3" in capsys.readouterr().out
    assert analyse.main(arguments(config, out, "efficiency", *more[:2])) == 2
    assert "there are 7 images for a batch of 16" in capsys.readouterr().err
