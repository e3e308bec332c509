"""Exported scorers: real images by other runtimes, files whole or not at all, refusals."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import cache
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
from lit_biqa.backbones.transforms import Frame
from lit_biqa.export import int8, onnx_file, writing
from lit_biqa.export.description import OPENED, describe
from lit_biqa.export.graph import build_graph
from lit_biqa.export.onnx_file import OnnxScorer
from lit_biqa.scoring.scorer import load_scorer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"
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

    @cache
    def made(kind: str) -> Path:
        return write_small(kind, tmp_path_factory.mktemp(kind) / "scorer.safetensors", photos[:16])

    return made


@pytest.fixture(scope="module")
def exported(scorers: Callable[[str], Path]) -> Callable[..., Path]:
    """Program of the scorer of a kind, by the command's options; each is made once."""

    @cache
    def made(kind: str, to: str, *options: str) -> Path:
        scorer = scorers(kind)
        out = scorer.with_name("-".join(["program", to, *options[1:]]))
        assert main(["export", str(scorer), "--to", to, "--out", str(out), *options]) == 0
        return out

    return made


def described(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{out}.json").read_text())
    return found


def loaded(out: Path) -> Callable[[Tensor], Tensor]:
    with out.open("rb") as file:
        run: Callable[[Tensor], Tensor] = torch.export.load(file).module()
    return run


@torch.no_grad()
def scores_of(run: Callable[[Tensor], Tensor], items: Sequence[Tensor]) -> Tensor:
    """Scores of items, in batches of one shape."""
    parts = [items[start : start + TOGETHER] for start in range(0, len(items), TOGETHER)]
    return torch.cat([by_shape(run, part) for part in parts])


@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime_scores_as_the_scorer(
    kind: str,
    scorers: Callable[[str], Path],
    exported: Callable[..., Path],
    photos: list[Image.Image],
) -> None:
    scorer, out = load_scorer(scorers(kind)), exported(kind, "onnx")
    found = scores_of(OnnxScorer(out), [scorer.transform(photo) for photo in photos])
    expected = scorer(photos)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert described(out)["largest_difference"] <= 1e-4


def test_a_program_of_torch_scores_as_the_scorer(
    scorers: Callable[[str], Path],
    exported: Callable[..., Path],
    photos: list[Image.Image],
) -> None:
    scorer, out = load_scorer(scorers("timm_stages")), exported("timm_stages", "torch")
    found = scores_of(loaded(out), [scorer.transform(photo) for photo in photos])
    torch.testing.assert_close(found, scorer(photos), atol=1e-4, rtol=0)


@pytest.mark.newest
@pytest.mark.parametrize(
    ("kind", "to"),
    [("tiny", "torch"), ("timm_clip", "torch"), *((kind, "onnx") for kind in KINDS)],
)
def test_a_program_may_scale_images_itself(
    kind: str,
    to: str,
    scorers: Callable[[str], Path],
    exported: Callable[..., Path],
    photos: list[Image.Image],
) -> None:
    scorer, out = load_scorer(scorers(kind)), exported(kind, to, "--input", "images")
    batch = [torch.from_numpy(np.array(photo)).permute(2, 0, 1) for photo in photos]
    run = OnnxScorer(out) if to == "onnx" else loaded(out)
    apart = (scores_of(run, batch) - scorer(photos)).abs()
    assert apart.max() < 0.05 and apart.median() < 5e-3
    told = described(out)
    assert told["preprocessing"] == {"steps": [OPENED]}
    shape = ["batch", 3, "height", "width"]
    assert told["input"] == {"name": "images", "type": "uint8", "shape": shape, "colours": "RGB"}


def test_weights_in_8_bits_change_scores_little(
    scorers: Callable[[str], Path], exported: Callable[..., Path], photos: list[Image.Image]
) -> None:
    whole, small = exported("tiny", "onnx"), exported("tiny", "onnx", "--weights", "int8")
    scorer = load_scorer(scorers("tiny"))
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


@pytest.mark.parametrize("kind", KINDS)
def test_the_code_of_the_page_scores_as_the_scorer(
    kind: str,
    scorers: Callable[[str], Path],
    exported: Callable[..., Path],
    photos: list[Image.Image],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It makes pixels from the description alone."""
    out = exported(kind, "onnx")
    shutil.copy(out, tmp_path / "scorer.onnx")
    shutil.copy(f"{out}.json", tmp_path / "scorer.onnx.json")
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright
    photos[0].save(tmp_path / "one.jpg", exif=exif)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(block, str(PAGE), "exec"), names)
    (score,) = names["session"].run(["score"], {"pixels": names["batch"]})
    torch.testing.assert_close(
        torch.from_numpy(score), load_scorer(scorers(kind))("one.jpg"), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_description_names_every_step(
    kind: str, photos: list[Image.Image], tmp_path: Path
) -> None:
    scorer = load_scorer(write_small(kind, tmp_path / "scorer.safetensors", photos[:16]))
    told = describe(scorer, build_graph(scorer, "pixels"), "float32", 0.0)
    sizes = {"tiny": "to 60 ", "vit": "to 28 ", "resnet": "to 64 ", "timm_clip": "to 160 x 160"}
    steps = told["preprocessing"]["steps"]
    assert sizes.get(kind, "more than 64 pixels") in steps[1]
    assert ("bilinear" in steps[1]) == (kind == "timm_clip")
    assert all(word in steps[0] for word in ("EXIF", "white", "16 bits"))
    crops = [step for step in steps if step.startswith("crop")]
    assert len(crops) == (kind != "timm_stages")
    assert any("rounded down" in step for step in crops) == (kind == "resnet")
    assert told["scorer"] == {
        "kind": KINDS[kind]["kind"],
        "sha256": hashlib.sha256(scorer.path.read_bytes()).hexdigest() if scorer.path else "",
    }
    free = kind == "timm_stages"
    sides = ["height", "width"] if free else [scorer.transform.frame.size] * 2
    assert told["input"]["shape"] == ["batch", 3, *sides]


def test_nothing_is_left_of_a_program_that_scores_otherwise(
    scorers: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.setattr(writing, "_write", lambda *_: lambda batch: torch.full((3,), 9.0))
    out = tmp_path / "program.pt2"
    assert main(["export", str(scorers("tiny")), "--to", "torch", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "is not written: its scores differ by" in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_on_a_full_disk(
    scorers: Callable[[str], Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: Capture,
) -> None:
    path, out = scorers("vit"), tmp_path / "program.pt2"
    request.getfixturevalue("full_disk")
    assert main(["export", str(path), "--to", "torch", "--out", str(out)]) != 0
    assert "cannot be written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_refused_in_one_line(
    scorers: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    path, out = scorers("tiny"), tmp_path / "program.onnx"

    def refused(*arguments: str) -> str:
        assert main(["export", str(path), "--to", "onnx", "--out", str(out), *arguments]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    assert "--weights int8 needs --to onnx" in refused("--to", "torch", "--weights", "int8")
    for odd in ("", ".", "/"):
        assert "names no file" in refused("--out", odd)
    assert "is not UTF-8" in refused("--out", str(tmp_path / "a\udcff.onnx"))
    monkeypatch.setattr(onnx_file, "_MOST_BYTES", 1000)
    assert "than the 2 GB that an ONNX file holds: use --to torch" in refused()
    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install 'lit_biqa[onnx]'" in refused()
    out.touch()
    assert "exists and is not replaced" in refused()


def test_an_operation_without_onnx_is_refused_in_one_line(
    photos: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """At a size that is not its own, the network scales its positions with antialiasing."""
    settings = {**KINDS["timm_clip"], "frame": Frame(32, "squash")}
    config = settings["config"]
    config = {**config, "vision_cfg": {**config["vision_cfg"], "image_size": 32}}
    monkeypatch.setitem(KINDS, "timm_clip", {**settings, "config": config})
    path = write_small("timm_clip", tmp_path / "scorer.safetensors", photos[:16])
    assert main(["export", str(path), "--to", "onnx", "--out", str(tmp_path / "x.onnx")]) == 2
    said = capsys.readouterr().err
    assert "does not become ONNX" in said and "use --to torch" in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


def test_free_sizes_of_images_are_refused(
    scorers: Callable[[str], Path], tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["--to", "torch", "--input", "images", "--out", str(tmp_path / "program.pt2")]
    assert main(["export", str(scorers("timm_stages")), *arguments]) == 2
    said = capsys.readouterr().err
    assert "the scorer crops nothing" in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_padding_by_free_sizes_is_refused_for_torch(
    photos: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """The network of quickstart_pretrained; torch.export would run for minutes."""
    monkeypatch.setitem(KINDS["timm_stages"], "architecture", "tf_efficientnet_lite0")
    path = write_small("timm_stages", tmp_path / "scorer.safetensors", photos[:16])
    for given in ("pixels", "images"):
        arguments = ["--to", "torch", "--input", given, "--out", str(tmp_path / "program.pt2")]
        assert main(["export", str(path), *arguments]) == 2
        said = capsys.readouterr().err
        assert "pads by the size of the image" in said and "use --to onnx" in said
        assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]
