"""Exchange of parts between two models: the weights of one with vision or language of another.

Source: Reasoning as Representation, table 1, which pairs language models that were trained on
different data sets with the original vision encoder. It does not say on which side the merger is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lit_biqa.backbones.composed_model import SETTINGS
from lit_biqa.backbones.precision import Precision
from lit_biqa.backbones.tuning import Part, Tuning
from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.backbones.weights import state_of
from lit_biqa.text.parsing import answered
from lit_biqa.text.prompts import TEST_SCORE, TEST_SYSTEM
from lit_biqa.types import InputError

_LISTED = 3
_SAMPLE = f"{TEST_SYSTEM} {TEST_SCORE} {answered(3.21)}"


def weights_of(path: Path) -> Path:
    """Folder of weights: the path itself, or ``weights/`` of a run folder.

    Raises:
        InputError: if there is none.
    """
    folder = path / "weights" if (path / "weights").is_dir() else path
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{path} holds no config.json of a model, and no weights/ with one: name the weights "
            "of a finished fit, or a folder that transformers reads"
        )
    return folder


def backbone_of(folder: Path) -> VisionLanguageModel:
    """Backbone that reads a folder of weights, not loaded yet.

    Raises:
        InputError: if its configuration cannot be read.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind, dtype = config.get("model_type"), config.get("dtype") or config.get("torch_dtype")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{folder}/config.json cannot be read: {error}") from error
    precision: Precision = "bfloat16" if dtype == "bfloat16" else "float32"
    tuning, source = Tuning(parts=("language",), precision=precision), str(folder)
    if (folder / SETTINGS).is_file():
        from lit_biqa.backbones.timm_chat import TimmChat

        return TimmChat(source, tuning=tuning, precision="float32")
    from lit_biqa.backbones.qwen_vl import KINDS, QwenVL

    if kind in KINDS:
        return QwenVL(source, tuning)
    if kind == "mplug_owl2":
        from lit_biqa.backbones.owl2 import MplugOwl2

        return MplugOwl2(source, tuning)
    from lit_biqa.backbones.auto_chat import AutoChat

    return AutoChat(source, tuning)


def names_of(model: VisionLanguageModel, parts: Sequence[Part]) -> list[str]:
    """Names of the weights of some parts in the state of a loaded model."""
    modules: list[nn.Module] = [module for part in parts for module in model.parts[part]]
    wanted = {id(t) for m in modules for t in (*m.parameters(), *m.buffers())}
    return [name for name, t in model.state_dict(keep_vars=True).items() if id(t) in wanted]


def swap(base: Path, donor: Path, parts: Sequence[Part], out: Path) -> tuple[int, int]:
    """Write the weights of one model with parts of another.

    Args:
        base: folder of the model that gives everything else.
        donor: folder of the model that gives the parts.
        parts: ``vision``, ``bridge`` (merger, abstractor or projection), ``language``.
        out: folder to write.

    Returns:
        Number of tensors of the parts, and how many of them differ between the two.

    Raises:
        InputError: if the models are of different families, read images or (for ``language``)
            texts differently, or their parts differ in names or shapes, or in nothing.
    """
    one, other = backbone_of(base), backbone_of(donor)
    if type(one) is not type(other):
        kinds = type(one).__name__, type(other).__name__
        raise InputError(f"{base} is of {kinds[0]}, {donor} of {kinds[1]}: name two of one family")
    _compare_pixels(one, other, f"{base} and {donor}")
    if "language" in parts and one.tokenize(_SAMPLE) != other.tokenize(_SAMPLE):
        raise InputError(
            f"{base} and {donor} have different tokens: the language of one does not fit the "
            "tokenizer of the other"
        )
    other.load()
    lent = state_of(other)
    lent = {name: lent[name] for name in names_of(other, parts)}
    other.model = None  # of seven billion weights, two copies may be too many
    one.load()
    state, names = state_of(one), names_of(one, parts)
    _compare_shapes({name: state[name] for name in names}, lent, donor)
    changed = sum(not torch.equal(state[name], lent[name]) for name in names)
    if not changed:
        raise InputError(
            f"{' and '.join(parts)} of {base} and {donor} are equal: both were frozen, or one "
            "comes from the other without training them. Nothing would change"
        )
    one.save(out, state | lent)
    return len(names), changed


def _compare_pixels(one: VisionLanguageModel, other: VisionLanguageModel, names: str) -> None:
    """Refuse models whose image transforms make different pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    first, second = one.image_transform(image), other.image_transform(image)
    if first.shape != second.shape or not torch.equal(first, second):
        raise InputError(
            f"{names} read images differently (size, mean or deviation): the vision of one does "
            "not fit the other"
        )


def _compare_shapes(mine: dict[str, Tensor], lent: dict[str, Tensor], donor: Path) -> None:
    absent = sorted(mine.keys() ^ lent.keys())
    if absent:
        raise InputError(
            f"{donor}: its part has other weights, such as {', '.join(absent[:_LISTED])}: name "
            "two models of one architecture"
        )
    wrong = [
        f"{name} is {list(lent[name].shape)}, not {list(weight.shape)}"
        for name, weight in mine.items()
        if weight.shape != lent[name].shape
    ]
    if wrong:
        raise InputError(
            f"{donor}: {len(wrong)} weights of its part have another shape "
            f"({'; '.join(wrong[:_LISTED])}): name two models of one size"
        )
