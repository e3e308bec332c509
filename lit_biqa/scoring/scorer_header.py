"""Header of a scorer file, checked before memory is taken for its tensors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lit_biqa import limits
from lit_biqa.backbones.image_towers import build_tower
from lit_biqa.backbones.transforms import MODES, Frame
from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import PrototypeHead
from lit_biqa.types import InputError

Shapes = Mapping[str, tuple[int, ...]]
_MOST = {
    "layers": limits.TOWER_LAYERS,
    "size": limits.TOWER_SIDE,
    "image_size": limits.TOWER_SIDE,
    "vocab_size": limits.VOCABULARY,
}


def read_header(notes: Mapping[str, str]) -> tuple[dict[str, Any], HeadSettings]:
    """Settings of the encoder and of the head.

    Raises:
        InputError: if a size exceeds its limit; names both.
        ValueError: if the settings are no JSON; other errors if one is missing.
    """
    encoder: dict[str, Any] = json.loads(notes["encoder"])
    _check_sizes("encoder", encoder)
    check_frame(Frame(**encoder["frame"]))
    return encoder, HeadSettings(**json.loads(notes["head"]))


def _check_sizes(name: str, value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _check_sizes(key, item)
    elif isinstance(value, list):
        # The stages of a tower together may have as many layers as one stage.
        for item in [sum(value)] if name == "layers" else value:
            _check_sizes(name, item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{name} is {value}, which is no number")
    elif isinstance(value, int | float):
        most = _MOST.get(name, limits.TOWER_WIDTH)
        if abs(value) > most:
            raise InputError(f"{name} is {value:.6g}, more than the {most:,} allowed")


def check_frame(frame: Frame) -> None:
    """Refuse a frame with no pixels, or with too many.

    Raises:
        InputError: names what is wrong.
    """
    if not 1 <= frame.size * (1 + frame.margin) <= limits.TOWER_SIDE or frame.margin < 0:
        raise InputError(
            f"frame of size {frame.size} and margin {frame.margin}: sides of 1 to "
            f"{limits.TOWER_SIDE:,} pixels are allowed"
        )
    if frame.mode not in MODES:
        raise InputError(f"frame of mode {frame.mode!r}: known are {', '.join(MODES)}")
    if not len(frame.mean) == len(frame.std) == 3 or min(frame.std) <= 0:
        raise InputError("frame without a mean and a positive deviation of three channels")


def check_shapes(encoder: dict[str, Any], head: HeadSettings, found: Shapes) -> None:
    """Compare the tensors of the file with those that its settings would build.

    Nothing is built for the check; the scorer built afterwards takes as much memory as the file.

    Raises:
        InputError: names the first tensors that are missing, unexpected or of another shape.
    """
    with torch.device("meta"):
        parts = {
            "tower": build_tower(encoder),
            "head": PrototypeHead(int(encoder["dim"]), head),
        }
    expected = {name: tuple(value.shape) for name, value in _state(parts).items()}
    faults = {
        "missing": expected.keys() - found.keys(),
        "not expected": found.keys() - expected.keys(),
        "size mismatch": {n for n in expected.keys() & found.keys() if expected[n] != found[n]},
    }
    told = [f"{fault}: {', '.join(sorted(n)[:3])}" for fault, n in faults.items() if n]
    if told:
        raise InputError(f"its tensors do not fit its settings ({'; '.join(told)})")


def _state(parts: dict[str, nn.Module]) -> dict[str, Tensor]:
    return {f"{p}.{n}": v for p, part in parts.items() for n, v in part.state_dict().items()}
