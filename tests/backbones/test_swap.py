"""Parts of one model in another, on every family that has them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from chatters import picture
from llavas import SmallInternVL, SmallLlavaOneVision
from timm_chats import TinyTimmChat

from lit_biqa.backbones.swap import backbone_of, names_of
from lit_biqa.backbones.tiny_chat import TinyMplugOwl2, TinyQwenVL
from lit_biqa.backbones.tuning import Part
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.backbones.weights import state_of
from lit_biqa.cli import swap as command
from lit_biqa.types import ask


def made(family: str, width: int = 64) -> VisionLanguageModel:
    others: dict[str, Callable[[], VisionLanguageModel]] = {
        "timm": TinyTimmChat,
        "internvl": SmallInternVL,
        "llava_onevision": SmallLlavaOneVision,
    }
    if family in others:
        return others[family]()
    if family == "owl2":
        return TinyMplugOwl2(width=width, layers=2)
    return TinyQwenVL(vocabulary=300, width=width, layers=2)


@pytest.fixture(scope="module", params=["owl2", "qwen", "timm", "internvl", "llava_onevision"])
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights A, and B in a run folder, all of whose weights are other."""
    folder = tmp_path_factory.mktemp(request.param)
    model = made(request.param)
    model.load()
    state = state_of(model)
    model.save(folder / "a", state)
    other = {k: v + 0.01 if v.is_floating_point() else v for k, v in state.items()}
    model.save(folder / "b" / "weights", other)
    return folder


def loaded(folder: Path) -> VisionLanguageModel:
    model = backbone_of(folder)
    model.load()
    return model


@pytest.mark.parametrize("parts", [["vision"], ["vision", "bridge"], ["language"]])
def test_the_part_is_the_donors_and_the_rest_is_not(folders: Path, parts: list[Part]) -> None:
    out = folders / "-".join(parts)
    arguments = [str(folders / "a"), str(folders / "b"), "--part", *parts, "--out", str(out)]
    assert command.main(arguments) == 0
    one, other, swapped = (loaded(f) for f in (folders / "a", folders / "b" / "weights", out))
    expected, lent = state_of(one), state_of(other)
    names = set(names_of(one, parts))
    assert 0 < len(names) < len(expected)
    for name, weight in state_of(swapped).items():
        assert torch.equal(weight, (lent if name in names else expected)[name]), name
    chat = ask("Rate it.", one.image_transform(picture(80, 60)))
    with torch.no_grad():
        hidden = [
            model(lambda m: m.hidden(m.encode([chat]))).last_hidden_state
            for model in (one, other, swapped)
        ]
    assert not torch.allclose(hidden[2], hidden[0])
    assert not torch.allclose(hidden[2], hidden[1])


def test_what_does_not_fit_is_refused(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(one: Path, other: Path, *parts: str, out: Path = tmp_path / "out") -> str:
        arguments = [str(one), str(other), "--part", *(parts or ("vision",)), "--out", str(out)]
        assert command.main(arguments) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    a, b = folders / "a", folders / "b"
    assert "vision of" in said(a, a)
    assert "are equal" in said(a, a)
    assert "is not replaced" in said(a, b, out=tmp_path)
    assert "holds no config.json" in said(a, tmp_path)
    assert "that is all of" in said(a, b, "vision", "bridge", "language")
    other = "qwen" if folders.name.startswith("owl2") else "owl2"
    alien = made(other)
    alien.load()
    alien.save(tmp_path / "alien", state_of(alien))
    assert "name two of one family" in said(a, tmp_path / "alien")
    shutil.copytree(a, tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text("{")
    assert "config.json cannot be read" in said(a, tmp_path / "broken")


def test_another_size_and_other_pixels_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, width in (("small", 32), ("large", 64)):
        model = made("qwen", width)
        model.load()
        model.save(tmp_path / name, state_of(model))
    small, large, out = (str(tmp_path / name) for name in ("small", "large", "out"))
    assert command.main([small, large, "--part", "vision", "--out", out]) == 2
    assert "have another shape (model.model.visual" in capsys.readouterr().err
    shutil.copytree(small, tmp_path / "bright")
    file = tmp_path / "bright" / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | {"image_mean": [0.1, 0.1, 0.1]}))
    assert command.main([small, str(tmp_path / "bright"), "--part", "vision", "--out", out]) == 2
    assert "read images differently" in capsys.readouterr().err
    model = TinyQwenVL(texts=[str(file)], vocabulary=300, width=32, layers=2)
    model.load()
    model.save(tmp_path / "foreign", state_of(model))
    given = [small, str(tmp_path / "foreign"), "--part", "language", "--out", out]
    assert command.main(given) == 2
    assert "have different tokens" in capsys.readouterr().err
