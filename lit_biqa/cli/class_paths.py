"""Checks of class paths: a configuration may name only classes of the kinds that settings take.

The parser compares a class with the setting that it stands under, but it would also call functions,
and anything at all if a library's constructor declares `Callable` or `Any`. Therefore every class
path of the parsed settings must name a class of a known kind, before any of them is called.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch import Callback
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy
from torch.optim import Optimizer

from lit_biqa.compat.jsonargparse import Namespace
from lit_biqa.types import InputError

#: Kinds that settings take, besides this package's own classes and those derived from them.
KINDS = (
    Accelerator,
    Callback,
    CheckpointIO,
    ClusterEnvironment,
    LayerSync,
    Logger,
    Optimizer,
    Precision,
    Profiler,
    Strategy,
)
_PACKAGE = __name__.partition(".")[0]

#: Moved classes: a ``config.yaml`` saved earlier names the old path.
MOVED = {
    "lit_biqa.methods.external.Predictions": "lit_biqa.methods.predictions_file.Predictions",
    "lit_biqa.methods.portable.PortableScorer": "lit_biqa.methods.scorer_method.PortableScorer",
}


def refuse_standard_library(settings: object, name: str = "") -> None:
    """Refuse class paths into Python's own library, before anything is imported for them.

    Args:
        settings: settings as read from YAML.
        name: name of ``settings`` itself.

    Raises:
        InputError: names the setting.
    """
    for key, value in walk(settings, name):
        if _last(key) == "class_path":
            check_module(value, key)


def with_new_places(settings: Any) -> Any:
    """Settings as read from YAML, with moved classes under their new path."""
    if isinstance(settings, dict):
        return {
            key: MOVED.get(value, value)
            if key == "class_path" and isinstance(value, str)
            else with_new_places(value)
            for key, value in settings.items()
        }
    return [with_new_places(item) for item in settings] if isinstance(settings, list) else settings


def check_module(path: object, key: str) -> None:
    """Refuse a class path into Python's own library.

    Raises:
        InputError: names the setting.
    """
    # None of its classes is of a known kind, and importing some of its modules has side effects.
    if isinstance(path, str) and path.partition(".")[0] in sys.stdlib_module_names:
        raise InputError(f"{key}: {path} is in Python's own library, which settings may not name")


def check_parsed(config: object) -> None:
    """Refuse parsed settings that would call anything but a class of a known kind.

    The modules of class paths have been imported by then; nothing in them has been called.

    Args:
        config: result of the parser.

    Raises:
        InputError: names the setting.
    """
    for key, value in walk(config):
        if _last(key) == "class_path" and isinstance(value, str):
            _check_class(value, key)
        elif callable(value):
            name = getattr(value, "__qualname__", type(value).__qualname__)
            raise InputError(
                f"{key}: {name} would be called: settings take classes, by class_path, and no "
                "functions"
            )


def _check_class(path: str, key: str) -> None:
    check_module(path, key)
    if not _is_of_a_kind(imported(path, key)):
        kinds = ", ".join(sorted(kind.__name__ for kind in KINDS))
        raise InputError(
            f"{key}: {path} is not called, because no setting takes it: take a class of "
            f"{_PACKAGE}, or one derived from them or from {kinds}"
        )


def imported(path: str, key: str) -> Any:
    """Import the object that a class path names.

    Raises:
        InputError: if there is none; ``key`` is the setting.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{key}: there is no class {path}") from error


def _is_of_a_kind(named: object) -> bool:
    if not isinstance(named, type):
        return False
    ours = any(base.__module__.partition(".")[0] == _PACKAGE for base in named.__mro__)
    return ours or issubclass(named, KINDS)


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def walk(settings: object, name: str = "") -> Iterator[tuple[str, Any]]:
    """All leaf values, each with its dotted name.

    Args:
        settings: nested mappings, namespaces and lists of values.
        name: name of ``settings`` itself.
    """
    items: Iterator[tuple[object, object]]
    if isinstance(settings, Mapping):
        items = iter(settings.items())
    elif isinstance(settings, (list, tuple, set)):
        items = iter(enumerate(settings))
    elif isinstance(settings, Namespace):
        items = iter(vars(settings).items())
    else:
        yield name, settings
        return
    for key, value in items:
        yield from walk(value, f"{name}.{key}" if name else str(key))
