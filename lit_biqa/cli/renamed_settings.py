"""Renamed settings: an old name is refused, and the error gives the new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lit_biqa.io import yaml_text
from lit_biqa.types import InputError

#: Old names and new ones. ``data.texts`` is now a group: an old value of it is no mapping.
RENAMED = {
    "data.texts": "data.texts.files",
    "data.text_fields": "data.texts.fields",
    "data.texts_per_image": "data.texts.per_image",
    "data.clean": "data.texts.clean",
    "data.missing": "data.images.missing",
    "data.on_bad_image": "data.images.on_bad",
    "data.max_pixels": "data.images.max_pixels",
    "data.embeddings": "data.images.embeddings",
    "data.labels": "data.sets.labels",
    "data.synthetic": "data.sets.synthetic",
    "data.conversations": "data.sets.conversations",
    "data.batch_size": "data.loader.batch_size",
    "data.eval_batch_size": "data.loader.eval_batch_size",
    "data.num_workers": "data.loader.num_workers",
    "data.group_by_length": "data.loader.group_by_length",
    "data.seed": "data.loader.seed",
    "data.val_fraction": "data.val",
}

#: The same for GRPO; other methods may have settings of these names.
RENAMED_OF_GRPO = {
    "model.paradigm.annotations": "data.texts.annotations",
    **{
        f"model.{name}": f"model.policy.{name}"
        for name in ("beta", "clip", "aggregation", "scale", "iterations", "rows_at_once")
    },
    **{
        f"model.{name}": f"model.rollouts.{name}"
        for name in ("prompts_at_once", "table_every", "seed")
    },
}

#: The same for the format reward of a paradigm, of the first pass and of the second.
RENAMED_OF_FORMAT = {
    f"model.paradigm.format.{reward}.{name}": f"model.paradigm.format.{reward}.match"
    for reward in ("reward", "reward.reward")
    for name in ("strict", "prefix")
}


def refuse_renamed(settings: Mapping[str, Any], place: str, method: str = "") -> None:
    """Refuse old names.

    ``refuse_renamed({"data": {"batch_size": 8}}, "a.yaml")`` says ``a.yaml uses old names of
    settings: data.batch_size is now data.loader.batch_size``.

    Args:
        settings: nested settings as read from YAML.
        place: file or command line, for the error.
        method: class path of the method, if known; GRPO has old names of its own.

    Raises:
        InputError: names every old name with its new one.
    """
    of_grpo = RENAMED_OF_GRPO | RENAMED_OF_FORMAT
    renamed = RENAMED | (of_grpo if method.rpartition(".")[2] == "GRPO" else {})
    old = [name for name, new in renamed.items() if _holds(settings, name, new)]
    if old:
        told = ", ".join(f"{name} is now {renamed[name]}" for name in old)
        raise InputError(f"{place} uses old names of settings: {told}")


def refuse_renamed_argument(argument: str, method: str = "") -> None:
    """Refuse an old name on the command line.

    Args:
        argument: as ``--key=value``.
        method: see `refuse_renamed`.

    Raises:
        InputError: as `refuse_renamed`.
    """
    key, _, value = argument.partition("=")
    name = key.removeprefix("--").removesuffix("+")
    settings: Any = value
    if name in ("data", "data.texts"):
        settings = yaml_text.parse(value, key)
    for part in reversed(name.split(".")):
        settings = {part: settings}
    refuse_renamed(settings, "the command line", method)


def _holds(settings: Mapping[str, Any], name: str, new: str) -> bool:
    value: Any = settings
    for key in name.split("."):
        if isinstance(value, Mapping) and isinstance(value.get("init_args"), Mapping):
            value = value["init_args"]
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    became_a_group = new.startswith(f"{name}.")
    return not (became_a_group and isinstance(value, Mapping))
