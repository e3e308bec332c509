"""Exported scorers: real images by other runtimes, files whole or not at all, refusals."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_scorers import KINDS, real_images, write_small
from torch import Tensor

from lit_biqa.__main__ import main
from lit_biqa.backbones.by_shape import by_shape
from lit_biqa.export import int8, onnx_file, writing
from lit_biqa.export.onnx_file import OnnxScorer
from lit_biqa.scoring.scorer import load_scorer

TOGETHER = 16  # images of a batch; programs are traced with two
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def photos(shared: Path) -> list[Image.Image]:
    return real_images(shared, 100)


@pytest.fixture(scope="module")
def scorers(
    photos: list[Image.Image], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """File of a small scorer of a kind, in a folder of its own."""

    def made(kind: str) -> Path:
        return write_small(kind, tmp_path_factory.mktemp(kind) / "scorer.safetensors", photos[:16])

    return made


def exported(scorer: Path, to: str, *options: str) -> Path:
    out = scorer.with_name(f"program.{to}")
    assert main(["export", str(scorer), "--to", to, "--out", str(out), *options]) == 0
    return out


def described(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{out}.json").read_text())
    return found


@torch.no_grad()
def scores_of(run: Callable[[Tensor], Tensor], items: Sequence[Tensor]) -> Tensor:
    """Scores of items, in batches of one shape."""
    parts = [items[start : start + TOGETHER] for start in range(0, len(items), TOGETHER)]
    return torch.cat([by_shape(run, part) for part in parts])


def pixels_by_hand(image: Image.Image, frame: dict[str, Any]) -> Tensor:
    """Steps of the description for a ``native`` frame, without this package."""
    side = min(frame["size"], *image.size)
    size = [side * each // min(image.size) for each in image.size]
    values = np.asarray(image.resize((size[0], size[1]), Image.Resampling.BICUBIC)) / 255
    values = (values - frame["mean"]) / frame["std"]
    return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime_scores_as_the_scorer(
    kind: str, scorers: Callable[[str], Path], photos: list[Image.Image]
) -> None:
    path = scorers(kind)
    scorer, out = load_scorer(path), exported(path, "onnx")
    found = scores_of(OnnxScorer(out), [scorer.transform(photo) for photo in photos])
    expected = scorer(photos)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert described(out)["largest_difference"] <= 1e-4


@pytest.mark.parametrize("kind", ["tiny", "vit", "timm_stages"])
def test_a_program_of_torch_scores_as_the_scorer(
    kind: str, scorers: Callable[[str], Path], photos: list[Image.Image]
) -> None:
    path = scorers(kind)
    scorer, out = load_scorer(path), exported(path, "torch")
    with out.open("rb") as file:
        run = torch.export.load(file).module()
    found = scores_of(run, [scorer.transform(photo) for photo in photos])
    torch.testing.assert_close(found, scorer(photos), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["tiny", "timm_stages"])
def test_a_program_may_scale_images_itself(
    kind: str, scorers: Callable[[str], Path], photos: list[Image.Image]
) -> None:
    path = scorers(kind)
    scorer, out = load_scorer(path), exported(path, "onnx", "--input", "images")
    batch = [torch.from_numpy(np.array(photo)).permute(2, 0, 1) for photo in photos]
    apart = (scores_of(OnnxScorer(out), batch) - scorer(photos)).abs()
    assert apart.max() < 0.05 and apart.median() < 5e-3
    told = described(out)
    assert told["preprocessing"] is None
    shape = ["batch", 3, "height", "width"]
    assert told["input"] == {"name": "images", "type": "uint8", "shape": shape, "colours": "RGB"}


def test_weights_in_8_bits_change_scores_little(
    scorers: Callable[[str], Path], photos: list[Image.Image]
) -> None:
    path = scorers("tiny")
    whole, small = exported(path, "onnx"), path.with_name("small.onnx")
    arguments = ["export", str(path), "--to", "onnx", "--out", str(small), "--weights", "int8"]
    assert main(arguments) == 0
    scorer = load_scorer(path)
    found = scores_of(OnnxScorer(small), [scorer.transform(photo) for photo in photos])
    expected = scorer(photos)
    assert not torch.equal(found, expected)
    assert (found - expected).square().mean().sqrt() < 0.1 * expected.std()
    kept, files = sum(w.nbytes for w in scorer.tower.state_dict().values()), (whole, small)
    assert files[0].stat().st_size - files[1].stat().st_size > 0.6 * kept
    assert described(small)["weights"] == "int8"


def test_channels_are_rounded_each_by_its_largest() -> None:
    values = np.array([[0.5, -1.27, 0.013], [127.0, 1.0, 0.4]], dtype=np.float32)
    levels, scale = int8._rounded(values, 0)
    assert levels.tolist() == [[50, -127, 1], [127, 1, 0]]
    np.testing.assert_allclose(scale, [0.01, 1.0], rtol=1e-6)
    levels, scale = int8._rounded(values, 1)
    assert levels.tolist() == [[0, -127, 4], [127, 100, 127]]


def test_the_description_suffices_to_make_pixels(
    scorers: Callable[[str], Path], photos: list[Image.Image]
) -> None:
    path = scorers("timm_stages")
    scorer, out = load_scorer(path), exported(path, "torch")
    told = described(out)
    with out.open("rb") as file:
        run = torch.export.load(file).module()
    by_hand = [pixels_by_hand(photo, told["preprocessing"]) for photo in photos[:10]]
    torch.testing.assert_close(scores_of(run, by_hand), scorer(photos[:10]), atol=1e-3, rtol=0)
    assert told["input"]["shape"] == ["batch", 3, "height", "width"]
    assert (told["scorer"]["kind"], told["weights"]) == ("timm_stages", "float32")
    assert told["output"]["range"] == [1.0, 5.0]
    for kind in KINDS:
        scorer = load_scorer(write_small(kind, path, photos[:16]))
        steps = writing.describe(scorer, writing.build_graph(scorer, "pixels"), "float32", 0)
        assert len(steps["preprocessing"]["steps"]) == (3 if kind == "timm_stages" else 4)


def test_nothing_is_left_of_a_program_that_scores_otherwise(
    scorers: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    path = scorers("tiny")
    monkeypatch.setattr(writing, "_write", lambda *_: lambda batch: torch.full((3,), 9.0))
    out = path.with_name("program.pt2")
    assert main(["export", str(path), "--to", "torch", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "is not written: its scores differ by" in said and said.count("\n") == 1
    assert [file.name for file in path.parent.iterdir()] == ["scorer.safetensors"]


@pytest.mark.usefixtures("full_disk")
def test_nothing_is_left_on_a_full_disk(
    tmp_path: Path, photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(writing, "largest_difference", lambda *_: 0.0)
    path = tmp_path / "scorer.safetensors"
    with pytest.MonkeyPatch.context() as whole:
        whole.setattr("os.fsync", lambda _: None)
        write_small("tiny", path, photos[:16])
    assert main(["export", str(path), "--to", "torch", "--out", str(tmp_path / "a.pt2")]) != 0
    assert "cannot be written" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["scorer.safetensors"]


def test_what_cannot_be_exported_is_refused_in_one_line(
    scorers: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    path = scorers("tiny")
    out = path.with_name("program.onnx")

    def refused(*arguments: str) -> str:
        assert main(["export", str(path), "--to", "onnx", "--out", str(out), *arguments]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    assert "--weights int8 needs --to onnx" in refused("--to", "torch", "--weights", "int8")
    monkeypatch.setattr(onnx_file, "_MOST_BYTES", 1000)
    assert "than the 2 GB that an ONNX file holds: use --to torch" in refused()
    for name in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install 'lit_biqa[onnx]'" in refused()
    out.touch()
    assert "exists and is not replaced" in refused()
