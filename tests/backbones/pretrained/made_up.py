"""A made-up package of weights, for plain installs: the table's lite0 with random weights."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from lit_biqa.backbones.pretrained import packages
from lit_biqa.backbones.pretrained.packages import WeightsFile, WeightsPackage

MODULE = "made_up_weights"
# A package of weights is never imported.
TRAP = "raise AssertionError('the package was imported')\n"


def random_lite0() -> dict[str, Tensor]:
    """State dict of timm's network with random weights and statistics."""
    torch.manual_seed(0)
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    return {
        name: torch.rand_like(value) if value.is_floating_point() else value
        for name, value in state.items()
    }


def install(
    site: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, Tensor]
) -> WeightsPackage:
    """Put a package with a state dict under other names on the path and into the table."""
    folder = site / MODULE / "models"
    folder.mkdir(parents=True)
    (site / MODULE / "__init__.py").write_text(TRAP)
    renamed = {f"_{i}.{name.rpartition('.')[2]}": w for i, (name, w) in enumerate(state.items())}
    torch.save(renamed, folder / "weights.pth")
    monkeypatch.syspath_prepend(site)
    data = (folder / "weights.pth").read_bytes()
    package = replace(
        packages.package_named("lite0"),
        distribution="made-up-weights",
        module=MODULE,
        files=(WeightsFile("weights.pth", len(data), hashlib.sha256(data).hexdigest()),),
    )
    monkeypatch.setattr(packages, "PACKAGES", (package,))
    return package


def installed(name: str) -> WeightsPackage:
    """A package of the table; the test is skipped where it is not installed."""
    package = packages.package_named(name)
    if packages.locate(package) is None:
        pytest.skip(f"the weights {name} are not installed: {package.install}")
    return package
