"""Checks of values that the parser accepts although no setting can have them.

These are null, NaN and infinity, and numbers out of range that Lightning does not check.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

from lit_biqa.cli.class_paths import imported, walk
from lit_biqa.compat.jsonargparse import Namespace
from lit_biqa.types import InputError, check_range

#: Smallest values of the Trainer's settings.
_LEAST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "max_epochs": -1,
    "max_steps": -1,
    "min_epochs": 0,
    "min_steps": 0,
    "num_nodes": 1,
    "num_sanity_val_steps": -1,
    "reload_dataloaders_every_n_epochs": 0,
}
_LARGEST_SEED = 2**32 - 1  # NumPy's limit


def check_values(settings: Namespace, groups: Mapping[str, type]) -> None:
    """Refuse null for settings that are not optional, and numbers that are not finite.

    Args:
        settings: settings parsed, and checked by `lit_biqa.cli.class_paths.check_parsed`.
        groups: classes whose settings have a group of their own, such as ``trainer``.

    Raises:
        InputError: names the setting.
    """
    for key, value in walk(settings):
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{key}: {value} is no number that a setting can have")
    for name, group in groups.items():
        if settings.get(name) is None:
            raise InputError(f"{name} is null: give settings of it, or leave it out")
        _check_arguments(settings[name], group, name)
    # The keys() of a Namespace are those of its leaves.
    for name, value in vars(settings).items():
        if name not in groups:
            _check_nested(value, None, name)


def check_ranges(settings: Namespace) -> None:
    """Refuse numbers that Lightning would use or pass on unchecked.

    Args:
        settings: parsed settings.

    Raises:
        InputError: names the setting.
    """
    for name, least in _LEAST.items():
        check_range(f"trainer.{name}", settings.trainer.get(name), least)
    check_range("seed_everything", settings.get("seed_everything"), 0, _LARGEST_SEED)
    interval = settings.trainer.get("val_check_interval")
    share = isinstance(interval, float) and not 0 < interval <= 1
    if share or (isinstance(interval, int) and interval < 1):
        raise InputError(
            f"trainer.val_check_interval is {interval}: give batches, 1 or more, or a share of the "
            "epoch, above 0.0 and up to 1.0"
        )


def _check_arguments(group: Namespace, kind: type, key: str) -> None:
    arguments = dict(parameters_of(kind))
    for name, value in vars(group).items():
        hint, default = arguments.get(name, (Any, None))
        if value is None and default is not None and not _admits_none(hint):
            raise InputError(f"{key}.{name} is null, which is no value of it: {_said(default)}")
        _check_nested(value, hint, f"{key}.{name}")


def _said(default: object) -> str:
    if default is inspect.Parameter.empty:
        return "it must be given"
    return (
        f"its default is {default!r}" if isinstance(default, (int, float, str)) else "leave it out"
    )


def _check_nested(value: object, hint: object, key: str) -> None:
    """Check classes, lists of classes, and settings that are dataclasses."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            _check_nested(item, None, f"{key}.{i}")
    elif isinstance(value, Namespace) and isinstance(value.get("class_path"), str):
        arguments = value.get("init_args")
        if isinstance(arguments, Namespace):
            _check_arguments(arguments, imported(value["class_path"], key), key)
    elif isinstance(value, Namespace):
        for kind in dataclasses_in(hint):
            _check_arguments(value, kind, key)


def dataclasses_in(hint: object) -> list[type]:
    """Dataclasses in a type hint: ``[Tuning]`` of ``Tuning | None``."""
    kinds = (hint, *get_args(hint))
    return [kind for kind in kinds if isinstance(kind, type) and dataclasses.is_dataclass(kind)]


def parameters_of(kind: type) -> Iterator[tuple[str, tuple[object, object]]]:
    """Type and default of the constructor arguments of a class and its bases, nearest last."""
    for base in reversed(kind.__mro__):
        if "__init__" not in vars(base) or base is object:
            continue
        try:
            hints = get_type_hints(base.__init__)  # type: ignore[misc]
            parameters = inspect.signature(base.__init__).parameters  # type: ignore[misc]
        except (NameError, TypeError, ValueError):
            continue  # a library's annotations that cannot be resolved
        for name, parameter in parameters.items():
            yield name, (hints.get(name, Any), parameter.default)


def _admits_none(hint: object) -> bool:
    if get_origin(hint) in (Union, types.UnionType):
        return any(_admits_none(item) for item in get_args(hint))
    return hint in (None, type(None), Any, object)
