"""RALI's released files as a scorer: ``ckpt.pt``, ``pca.pkl`` and the CLIP folder ``best/``.

Source: the demo of the authors (Q-Insight's repository, ``demo_rali_score.py``): the embedding
minus ``mean_``, divided by the absolute ``pca_scale``, on ``pca_components``; then equation 3 with
``logit_scale``, the inverse temperature.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_biqa.backbones.hf_clip import tower_weights
from lit_biqa.backbones.hf_clip_folder import tower_settings
from lit_biqa.io.array_pickle import read_array
from lit_biqa.io.files import refuse_special
from lit_biqa.io.json_text import parse_json
from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import PrototypeHead
from lit_biqa.scoring.scale import HIGH, LOW
from lit_biqa.scoring.scorer import write_scorer
from lit_biqa.types import InputError

_HEAD = ("pca_scale", "pca_components", "prototypes", "proto_scores", "logit_scale")


def import_rali(folder: Path, out: Path, mean: Path | None = None) -> None:
    """Write the released files as one scorer file.

    Args:
        folder: holds ``ckpt.pt``, ``pca.pkl`` and ``best/``.
        out: scorer file to write.
        mean: ``.npy`` file with the PCA's ``mean_``; ``None`` reads it from ``pca.pkl``, of which
            nothing but arrays is read.

    Raises:
        InputError: if a file is absent or broken, or its weights do not fit each other.
    """
    state = _checkpoint(folder / "ckpt.pt")
    clip = {n.removeprefix("clip."): v for n, v in state.items() if n.startswith("clip.")}
    best = folder / "best"
    encoder = tower_settings(
        _json(best / "config.json"), _json(best / "preprocessor_config.json"), "RALI"
    )
    weights = tower_weights(clip)
    centre = torch.from_numpy(read_array(mean or folder / "pca.pkl", "mean_").copy())
    head = _head(_scorer(state, folder), centre, int(encoder["dim"]))
    write_scorer(out, {name: value.float() for name, value in weights.items()}, head, encoder)


def _checkpoint(path: Path) -> Mapping[str, Tensor]:
    refuse_special(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state: Mapping[str, Tensor] = content["state_dict"]
        if not all(isinstance(value, Tensor) for value in state.values()):
            raise TypeError("state_dict holds more than tensors")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file: name the folder of RALI's release") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds more than tensors, and nothing else is unpickled"
        ) from error
    except Exception as error:  # a broken file can raise any error
        raise InputError(
            f"{path}: no checkpoint of RALI ({type(error).__name__}); download it again"
        ) from error
    return state


def _scorer(state: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    missing = [name for name in _HEAD if f"scorer.{name}" not in state]
    if missing:
        raise InputError(f"{folder / 'ckpt.pt'} lacks scorer.{missing[0]}: take RALI's ckpt.pt")
    return {name: state[f"scorer.{name}"].double() for name in _HEAD}


def _head(values: dict[str, Tensor], mean: Tensor, dim: int) -> PrototypeHead:
    components, prototypes = values["pca_components"], values["prototypes"]
    scores = values["proto_scores"]
    shapes = [tuple(t.shape) for t in (mean, values["pca_scale"], components, prototypes, scores)]
    dims, count = components.shape[0], prototypes.shape[0]
    if shapes != [(dim,), (dim,), (dims, dim), (count, dims), (count,)]:
        raise InputError(f"mean, scale, components, prototypes, scores have shapes {shapes}")
    if not LOW <= float(scores.median()) <= HIGH:
        raise InputError(
            f"the prototypes' scores have the median {float(scores.median()):.3g}, outside "
            f"[{LOW:g}, {HIGH:g}]: only heads trained on MOS on this scale are read"
        )
    temperature = 1 / max(float(values["logit_scale"]), 1e-6)
    head = PrototypeHead(
        dim, HeadSettings(pca=dims, prototypes=count, temperature=temperature, finetune=False)
    )
    axes = (components / values["pca_scale"].abs()).T
    named = {"mean": mean, "axes": axes, "prototypes": prototypes, "scores": scores}
    for name, value in named.items():
        getattr(head, name).copy_(value)
    head.fitted.fill_(True)
    return head


def _json(path: Path) -> dict[str, Any]:
    refuse_special(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; download RALI's best/") from error
    read: dict[str, Any] = parse_json(text, str(path))
    return read
