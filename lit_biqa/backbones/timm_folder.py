"""Folders of image networks in timm's form: ``config.json`` and ``model.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lit_biqa.backbones.transforms import Frame
from lit_biqa.types import InputError


def read_settings(folder: Path) -> dict[str, Any]:
    """Settings of a pretrained model from its ``config.json``.

    Raises:
        InputError: if there is none, or it is no JSON.
    """
    path = folder / "config.json"
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: no settings of a model ({type(error).__name__}); give a folder with "
            "config.json and weights, or package:NAME (`lit_biqa weights`)"
        ) from error
    return settings


def frame_of(described: Mapping[str, Any], size: int) -> Frame:
    """Frame of whole images whose shorter side has at most ``size`` pixels."""
    pretrained = described.get("pretrained_cfg", {})
    mean, std = (tuple(pretrained.get(name, (0.5,) * 3)) for name in ("mean", "std"))
    return Frame(size, mode="native", mean=mean, std=std)


def save_network(folder: Path, described: Mapping[str, Any], weights: dict[str, Tensor]) -> None:
    """Write a folder that ``timm.create_model("local-dir:...")`` reads; without a classifier."""
    from safetensors.torch import save_file

    folder.mkdir()
    plain = {
        name: (weight.float() if weight.is_floating_point() else weight).contiguous()
        for name, weight in weights.items()
    }
    save_file(plain, folder / "model.safetensors", {"format": "pt"})
    pretrained = {**described.get("pretrained_cfg", {}), "num_classes": 0}
    settings = {**described, "num_classes": 0, "pretrained_cfg": pretrained}
    (folder / "config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
