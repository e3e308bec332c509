"""Models that `lit_biqa serve` loads, and its errors before a server begins."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import runs
import torch

from lit_biqa.backbones.tiny import TinyClip
from lit_biqa.cli import serve
from lit_biqa.data.embeddings import EmbeddingRow, Embeddings, write_embeddings
from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import PrototypeHead
from lit_biqa.scoring.scorer import load_scorer, write_scorer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as a fit leaves it, of which the weights are random."""
    folder = tmp_path_factory.mktemp("serve")
    runs.write_settings(folder / "config.yaml", runs.tiny_settings(folder))
    encoder = TinyClip(dim=8, width=16, size=32, context=16)
    encoder.load()
    vectors = torch.randn(37, 8, generator=torch.Generator().manual_seed(0))
    head = PrototypeHead(8, HeadSettings(pca=4, prototypes=6, buckets=3, steps=0))
    head.fit(vectors, torch.linspace(1, 5, 37))
    file = folder / "scorer.safetensors"
    write_scorer(file, encoder.image_tower.state_dict(), head, encoder.settings())
    rows = tuple(
        EmbeddingRow("train", "all", i, f"train-{i}.png", 3.0, 0.1, "train") for i in range(37)
    )
    write_embeddings(folder / serve.EMBEDDINGS, Embeddings(vectors, rows))
    return folder


def test_prototypes_have_the_texts_of_their_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scorer = load_scorer(run)
    found = serve._examples(scorer, run)
    assert len(found) == 6
    for example in found:
        number = example.name.removeprefix("train-").removesuffix(".png")
        assert example.texts[0].startswith(f"image {number} looks ")
    # A scorer that was copied alone, and one whose run has lost its data.
    assert serve._examples(scorer, tmp_path) == []
    (tmp_path / serve.EMBEDDINGS).write_bytes((run / serve.EMBEDDINGS).read_bytes())
    alone = serve._examples(scorer, tmp_path)
    assert [(one.name, one.texts) for one in alone] == [(one.name, ()) for one in found]
    assert "texts of the training images are not shown: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (Path("runs/first/scorer.safetensors"), "first"),
        (Path("mine.safetensors"), "mine.safetensors"),
    ],
)
def test_clients_learn_the_name_of_a_run_and_no_path(part: Path, name: str) -> None:
    assert serve._name(part) == name
    assert serve._name("runs/small_score") == "small_score"


def test_without_its_extra_the_command_names_it(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    assert serve.main(["--scorer", str(run)]) == 2
    error = "error: serve needs the extra serve: pip install 'lit_biqa[serve]'\n"
    assert capsys.readouterr().err == error


def test_bad_input(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(serve, "find_spec", lambda name: name)
    (tmp_path / "empty").mkdir()

    def said(*arguments: str) -> str:
        assert serve.main([*arguments, "--port", "0"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "no scorer.safetensors in runs/" in said()
    assert "both name a scorer" in said("--run", str(run), "--scorer", str(run))
    assert "absent: no such scorer" in said("--scorer", "absent")
    assert "seconds=0: give at least 1" in said("--scorer", str(run), "--seconds", "0")
    assert "holds neither config.yaml nor" in said("--run", "empty")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert serve.main(["--scorer", str(run), "--port", port]) == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in capsys.readouterr().err
