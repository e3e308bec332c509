"""Checkpoints in transformers' layout: read completely or refused, written with LoRA merged."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_biqa.backbones.adapters import merge_adapter
from lit_biqa.backbones.other_layouts import HEAD, WRAPPED, layout_of_names
from lit_biqa.backbones.places import Place, check_there
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.backbones.unread import Stored, Unread
from lit_biqa.io.digests import DIGESTS, digests_of_files
from lit_biqa.io.files import draft
from lit_biqa.io.json_text import parse_json
from lit_biqa.types import InputError

_BASE = ".base_layer"
_LISTED = 5  # faulty weights named in an error; the others are counted


@contextmanager
def reading(source: str | Place, what: str) -> Iterator[None]:
    """Replace libraries' errors about missing and broken files by an `InputError`.

    Args:
        source: folder or name of a checkpoint.
        what: the part that is read, in words.

    Raises:
        InputError: if it is absent or broken.
    """
    from safetensors import SafetensorError

    check_there(Place.of(source).name)
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, ImportError, SafetensorError, pickle.UnpicklingError) as error:
        raise InputError(f"{source}: {what} cannot be read: {error}") from error


def read_config(source: str | Place, *kinds: str) -> Any:
    """Configuration of a checkpoint.

    Args:
        source: a folder, or a name that transformers can resolve.
        kinds: allowed values of ``model_type``.

    Raises:
        InputError: if there is none, or it is of another type.
    """
    from transformers import AutoConfig

    place = Place.of(source)
    with reading(place, "its configuration"):
        config = AutoConfig.from_pretrained(place.name, trust_remote_code=False, **place.options)
    if config.model_type not in kinds:
        allowed = " or ".join(map(repr, kinds))
        raise InputError(
            f"{source} holds a model of type {config.model_type!r}, not {allowed}: name another "
            "folder as `pretrained`, or another class as backbone"
        )
    return config


def read_weights(
    kind: Any,
    source: str | Place,
    options: dict[str, Any],
    adapter: Place | None = None,
    renamed: Mapping[str, str] = {},
) -> Any:
    """Transformers model with every weight of a checkpoint.

    Inside `Unread.taking` weights stay in their files if these are safetensors, and if no adapter
    is merged into them.

    Args:
        kind: class of the model.
        source: a folder, or a name that transformers can resolve.
        options: options of ``from_pretrained``.
        adapter: LoRA to merge into the weights.
        renamed: patterns of names that other programs give to this model's weights, and its own.

    Raises:
        InputError: if weights are missing, unknown or of another shape, or if a file is broken or
            was damaged after a fit wrote it.
    """
    if adapter is not None and "quantization_config" in options:
        raise InputError(
            f"{adapter} is an adapter, which is merged into whole weights, not into 4 bits: take "
            "tuning.how=lora"
        )
    place = Place.of(source)
    check_digests(Path(place.name))
    unread = Unread.taker()
    if unread is not None and adapter is None and "quantization_config" not in options:
        model = _outlined(kind, place, options, renamed, unread)
        if model is not None:
            return model
    given = {**place.options, **options}
    model = _from_pretrained(kind, place.name, place, given, renamed)
    if adapter is not None:
        merge_adapter(model, adapter)
    return model


def _from_pretrained(
    kind: Any,
    name: str | None,
    place: Place,
    options: dict[str, Any],
    renamed: Mapping[str, str],
) -> Any:
    """See `read_weights`; without a name, configuration and weights are among the options."""
    with reading(place, "its weights"):
        model, told = kind.from_pretrained(
            name,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
            key_mapping={**WRAPPED, **HEAD, **renamed},
            # An adapter beside the weights is not for transformers to add.
            adapter_kwargs={"subfolder": "none"},
            **options,
        )
    check_complete(str(place), told)
    return model


def _outlined(
    kind: Any,
    place: Place,
    options: dict[str, Any],
    renamed: Mapping[str, str],
    unread: Unread,
) -> Any | None:
    """Model with placeholders for its weights, which ``unread`` knows the files of.

    transformers gets the placeholders as if they were the weights, and gives them their places.

    Returns:
        ``None`` if there are no safetensors, or if a weight is more than one of the file in the
        precision of training (joined of several, or kept in float32), or if a buffer is.
    """
    from lit_biqa.compat.transformers import class_of

    stored = _stored(place)
    if not stored:
        return None
    blanks = {name: weight.placeholder(options["dtype"]) for name, weight in stored.items()}
    with reading(place, "its configuration"):
        built, config = class_of(kind, place.name, place.options)
    given = {**options, "config": config, "state_dict": blanks}
    model = _from_pretrained(built, None, place, given, renamed)
    floating = {name: blank for name, blank in blanks.items() if blank.is_floating_point()}
    known = {blank.data_ptr(): stored[name] for name, blank in floating.items()}
    weights = list(model.parameters())
    if any(weight.data_ptr() not in known for weight in weights):
        return None
    if any(buffer.data_ptr() in known for buffer in model.buffers()):
        return None
    unread.leave({weight: known[weight.data_ptr()] for weight in weights})
    return model


def _stored(place: Place) -> dict[str, Stored]:
    """Weights in the safetensors files of a checkpoint, by name; empty if it has no such files."""
    from safetensors import safe_open

    found: dict[str, Stored] = {}
    with reading(place, "its weights"):
        for path in _safetensors(place):
            file: Any = safe_open(path, "pt", backend="pread")
            found |= {name: Stored(file, name) for name in file.keys()}  # noqa: SIM118
    return found


def _safetensors(place: Place) -> list[Path]:
    """Files of a checkpoint in safetensors; empty if there are none."""
    single = place.file("model.safetensors")
    if single is not None:
        return [single]
    index = place.file("model.safetensors.index.json")
    if index is None:
        return []
    named = parse_json(index.read_text(encoding="utf-8"), str(index))["weight_map"]
    files = [place.file(name) for name in sorted(set(named.values()))]
    return [path for path in files if path is not None]


def check_digests(folder: Path) -> None:
    """Compare weight files with the digests that `save_weights` wrote beside them, if any.

    Raises:
        InputError: if they differ; names the files.
    """
    try:
        recorded = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
        pairs = {str(name): str(digest) for name, digest in recorded.items()}
    except (OSError, ValueError, AttributeError):
        return  # a folder from elsewhere, or from before digests
    current = digests_of_files(folder.glob("*.safetensors"))
    damaged = [name for name in current if pairs.get(name, current[name]) != current[name]]
    if damaged:
        raise InputError(
            f"{folder}: its weights cannot be read: {', '.join(damaged[:_LISTED])} differs from "
            f"the digest in {DIGESTS} beside it. Copy the folder from its run "
            f"again, or remove {DIGESTS} if the weights were changed on purpose."
        )


def check_complete(source: str, told: dict[str, Any]) -> None:
    """Refuse a checkpoint that transformers has read only in part.

    Args:
        source: folder or name of the checkpoint.
        told: loading info of ``from_pretrained`` (``output_loading_info``).

    Raises:
        InputError: names missing, unknown and misshaped weights.
    """
    mismatched = [
        f"{name} is {list(actual)}, not {list(expected)}"
        for name, actual, expected in told["mismatched_keys"]
    ]
    problems = [
        f"{len(names)} {what} ({', '.join(sorted(names)[:_LISTED])}"
        f"{', ...' if len(names) > _LISTED else ''})"
        for what, names in (
            ("missing", told["missing_keys"]),
            ("unknown", told["unexpected_keys"]),
            ("of the wrong shape", mismatched),
        )
        if names
    ]
    if problems:
        remedy = layout_of_names(told["unexpected_keys"])
        raise InputError(
            f"{source}: the weights do not fit the configuration: {'; '.join(problems)}. "
            f"{remedy or 'Take a complete checkpoint with its own config.json'}"
        )


def save_weights(
    folder: Path, model: Any, state: dict[str, Tensor], tuning: Tuning, *settings: Any
) -> None:
    """Write a folder that ``from_pretrained`` reads, whole or not at all.

    Args:
        folder: folder to make or replace.
        model: transformers model; its configuration is written, its weights are not read.
        state: weights of the backbone, keys ``model....``, whole and on the CPU.
        tuning: tuning of the run, with the scale of LoRA's updates.
        settings: objects with a ``save_pretrained``: tokenizer, image settings, processor.

    Raises:
        InputError: if it cannot be written.
    """
    from huggingface_hub import save_torch_state_dict

    named = {name.removeprefix("model."): weight for name, weight in state.items()}
    weights = {name: _own(_cast(w, tuning.dtype)) for name, w in merged(named, tuning).items()}
    if model.config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    try:
        with draft(folder) as part:
            save_torch_state_dict(weights, part, metadata={"format": "pt"})
            digests = digests_of_files(part.glob("*.safetensors"))
            (part / DIGESTS).write_text(json.dumps(digests), encoding="utf-8")
            for item in (_plain(model, tuning), *settings):
                item.save_pretrained(part)
            shutil.rmtree(folder, ignore_errors=True)
            part.replace(folder)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error}. Free disk space and repeat."
        ) from error


def _cast(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Weight in a data type; counters stay integers."""
    return weight.to(dtype) if weight.is_floating_point() else weight


def _own(weight: Tensor) -> Tensor:
    """Copy a gathered weight if its storage is larger than the weight itself."""
    larger = weight.untyped_storage().nbytes() > weight.nbytes
    return weight.clone() if larger else weight.contiguous()


def merged(state: dict[str, Tensor], tuning: Tuning) -> dict[str, Tensor]:
    """Weights under the names of a model without LoRA, with its updates added in float32.

    Source: Hu et al. (arXiv 2106.09685), equation 3: ``W + (alpha / rank) B A``.
    """
    plain: dict[str, Tensor] = {}
    for name in state:
        if ".lora_" in name or ".weight." in name:  # an update, or metadata of a 4-bit weight
            continue
        weight, stem = _whole(name, state), name.removesuffix(".weight").removesuffix(_BASE)
        if f"{stem}.lora_A.default.weight" in state and name.endswith(".weight"):
            down, up = (state[f"{stem}.lora_{side}.default.weight"].float() for side in "AB")
            weight = weight.float() + up @ down * (tuning.alpha / tuning.rank)
        plain[name.replace(f"{_BASE}.", ".")] = weight
    return plain


def _whole(name: str, state: dict[str, Tensor]) -> Tensor:
    """A weight, dequantised if it is in 4 bits."""
    packed = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
    if not packed:
        return state[name]
    from bitsandbytes.functional import QuantState, dequantize_4bit

    told = QuantState.from_dict(packed, device=torch.device("cpu"))
    weight: Tensor = dequantize_4bit(state[name], told)
    return weight


def _plain(model: Any, tuning: Tuning) -> Any:
    """Configuration for unquantised weights, with the model's class."""
    plain = type(model.config).from_dict(model.config.to_dict())
    plain.dtype = tuning.dtype
    plain.architectures = plain.architectures or [type(model).__name__]
    if hasattr(plain, "quantization_config"):
        del plain.quantization_config
    return plain


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Weights of a module on the CPU."""
    return {name: weight.detach().cpu() for name, weight in model.state_dict().items()}
